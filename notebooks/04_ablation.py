# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The ablation's results
#
# Does adapting the target to each person's size (SAHR), or the loss to each pixel's difficulty (WAHR),
# help? Small networks were trained with each loss on the same rendered crowds, which have the poses and
# positions of people in COCO photographs, and tested on the same images. `docs/ablation.md` has the plan
# and all tables. This notebook draws them from the files in `docs/results/ablation`, one per finished
# run, and needs no network.

# %%
import json
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import swahr

plt.rcParams |= {"figure.dpi": 90, "figure.constrained_layout.use": True, "axes.titlesize": "medium"}

RESULTS = Path(swahr.__file__).parents[1] / "docs" / "results" / "ablation"
ORDER = ["mse", "sahr", "wahr", "swahr", "swahr_exact", "swahr_learned", "wahr_learned"]
runs = [json.loads(file.read_text("utf-8")) for file in RESULTS.glob("*.json")]
runs.sort(key=lambda run: (ORDER.index(run["variant"]), run["seed"]))
variants = defaultdict(list)
for run in runs:
    variants[run["variant"]].append(run)
TESTS, DECODING = list(runs[0]["tests"]), "dark"
COLOURS = dict(zip(variants, plt.cm.tab10.colors, strict=False))
for name, own in variants.items():
    print(f"{name}: seeds {[run['seed'] for run in own]}")

# %% [markdown]
# ## 1. AP of each loss
#
# One dot per seed. A difference between losses means little unless it exceeds the spread of the dots.

# %%
figure, axes = plt.subplots(1, len(TESTS), figsize=(11, 3.2), sharey=True)
for ax, test in zip(axes, TESTS, strict=True):
    for row, (name, own) in enumerate(variants.items()):
        values = [100 * run["tests"][test]["metrics"][DECODING]["coco"]["AP"] for run in own]
        ax.plot(values, [row] * len(values), "o", color=COLOURS[name], alpha=0.7)
        ax.plot(np.mean(values), row, "|", color=COLOURS[name], markersize=18)
    ax.set(title=f"rendered {test} layouts", xlabel="AP (%)")
    ax.grid(axis="x", color="#dddddd")
axes[0].set_yticks(range(len(variants)), variants)
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# ## 2. Differences from the plain loss
#
# Two runs with the same seed saw the same images in the same order. Their detections are compared on the
# same resampled test images (paired bootstrap): the bar is the 95 % interval of AP minus that of the
# plain loss. Where it contains 0, these test images do not show a difference. The interval does not
# contain the chance of training; for that, compare the seeds.

# %%
rows = [one for run in runs for one in run["differences"]]
figure, axes = plt.subplots(1, len(TESTS), figsize=(11, 0.6 + 0.3 * len(rows) / len(TESTS)), sharey=True)
names = list(dict.fromkeys(run["name"] for run in runs if run["name"] in {one["run"] for one in rows}))
for ax, test in zip(axes, TESTS, strict=True):
    for one in rows:
        if one["test"] == test:
            value, low, high = (100 * one["metrics"]["AP"][key] for key in ("value", "low", "high"))
            at, colour = names.index(one["run"]), COLOURS[one["run"].rpartition("_")[0]]
            ax.plot([low, high], [at, at], color=colour)
            ax.plot(value, at, "o", color=colour)
    ax.axvline(0, color="#888888", linewidth=0.8)
    ax.set(title=f"rendered {test} layouts", xlabel="AP minus that of mse with the same seed (points)")
axes[0].set_yticks(range(len(names)), names)
axes[0].set_ylim(len(names) - 0.5, -0.5)
plt.show()

# %% [markdown]
# ## 3. Learning curves
#
# AP on 100 other images, which choose the weights that are tested. Curves that still rise at the end suggest
# that longer training would raise AP.

# %%
figure, ax = plt.subplots(figsize=(7, 3.4))
for name, own in variants.items():
    for i, run in enumerate(own):
        steps, values = np.array(run["curve"], dtype=float).T
        ax.plot(steps, 100 * values, color=COLOURS[name], linewidth=1, label=None if i else name)
ax.set(xlabel="optimiser steps", ylabel="AP on validation images (%)")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 4. Do scale maps learn size?
#
# SAHR lets the network choose the width $s \sigma$ of each keypoint's Gaussian. Left: $s$ at labelled
# keypoints against the person's size; lines are medians, bands quartiles. Right: Spearman's rank
# correlation of $s$ with size for each keypoint: 1 if larger people always have wider Gaussians, 0 if
# there is no relation; no bar where $s$ is constant.

# %%
test = TESTS[0]
scaled = {
    name: [run["tests"][test]["scale_map"] for run in own if run["tests"][test]["scale_map"]]
    for name, own in variants.items()
}
scaled = {name: own for name, own in scaled.items() if own}
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1, 1.2])
for name, own in scaled.items():
    for i, one in enumerate(own):
        size, s, low, high = (
            np.array([row[key] for row in one["by_size"]]) for key in ("size", "s", "low", "high")
        )
        left.plot(size, s, "o-", markersize=3, color=COLOURS[name], label=None if i else name)
        left.fill_between(size, low, high, color=COLOURS[name], alpha=0.12, linewidth=0)
left.axhline(1, color="#888888", linewidth=0.8)
left.set(xlabel="square root of the person's area (pixels of the map)", ylabel="s")
left.legend(frameon=False, fontsize=8)
keypoints = list(next(iter(scaled.values()))[0]["rank_correlation"])
for offset, (name, own) in enumerate(scaled.items()):
    found = [[one["rank_correlation"][key]["rho"] for one in own] for key in keypoints]
    rho = [np.nan if None in rhos else np.mean(rhos) for rhos in found]
    right.barh(np.arange(len(keypoints)) + 0.18 * offset, rho, 0.18, color=COLOURS[name])
right.set_yticks(np.arange(len(keypoints)) + 0.25, keypoints, fontsize=7)
right.invert_yaxis()
right.axvline(0, color="#888888", linewidth=0.8)
right.set(xlabel="rank correlation of s with person size, mean over seeds")
plt.show()

# %% [markdown]
# ## 5. Decoding
#
# The same weights, decoded in three ways: the published quarter-pixel offset, DARK, and DARK with the
# width of the scale map. What decoding adds does not depend on training.

# %%
figure, axes = plt.subplots(1, len(TESTS), figsize=(11, 3.2), sharey=True)
for ax, test in zip(axes, TESTS, strict=True):
    decodings = list(dict.fromkeys(name for run in runs for name in run["tests"][test]["metrics"]))
    for offset, decoding in enumerate(decodings):
        for row, own in enumerate(variants.values()):
            found = [run["tests"][test]["metrics"].get(decoding) for run in own]
            values = [100 * one["coco"]["AP"] for one in found if one]
            label = decoding if row == 0 else None
            ax.barh(row + 0.25 * offset, np.mean(values or [0]), 0.22, color=f"C{offset}", label=label)
    ax.set(title=f"rendered {test} layouts", xlabel="AP (%), mean over seeds")
axes[0].set_yticks(np.arange(len(variants)) + 0.25, variants)
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# ## 6. Does a keypoint's score predict its accuracy?
#
# Keypoints of detections that belong to a person, in ten bins of their score. Similarity is a keypoint's
# part of OKS: 1 at the true position. On the diagonal the score would be the similarity.

# %%
figure, ax = plt.subplots(figsize=(5, 4))
for name, own in variants.items():
    bins = defaultdict(list)
    for run in own:
        for one in run["tests"][TESTS[0]]["calibration"]:
            bins[one["from"]].append((one["score"], one["similarity"], one["keypoints"]))
    points = [
        np.average(rows, axis=0, weights=[row[2] for row in rows])[:2] for _, rows in sorted(bins.items())
    ]
    ax.plot(*np.array(points).T, "o-", markersize=3, color=COLOURS[name], label=name)
ax.plot([0, 1], [0, 1], color="#888888", linewidth=0.8)
ax.set(xlabel="score of the keypoint", ylabel="similarity to the true keypoint")
ax.legend(frameon=False, fontsize=8)
plt.show()
