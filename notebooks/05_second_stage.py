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
# # One person in the second stage
#
# The first stage finds all people of an image at once. The second stage crops the image around each of them
# and looks again. This notebook follows one person: the crop, the spatial transformer's $\theta$ (RMPE, Fang
# et al., ICCV 2017), the messages between keypoints (structured features, Chu et al., CVPR 2016), the scores
# of two discriminators (Adversarial PoseNet, Chen et al., ICCV 2017), and the final pose.
#
# The networks in `notebooks/weights` are small ones of the [ablation](../docs/second_stage.md), trained on
# 98,304 rendered images. [Where they come from](weights/README.md).

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import load_file

import swahr
from swahr import Predictor, draw_poses, load_checkpoint
from swahr.build import build_network_from
from swahr.second_stage import (
    ConfidenceDiscriminator,
    PoseDiscriminator,
    crop_people,
    frames_of_people,
    spanning_tree,
)
from swahr.second_stage.occlusion import OcclusionTarget
from swahr.structures import Batch
from swahr.synthetic import SyntheticSource
from swahr.targets import TargetEncoder

plt.rcParams |= {"figure.dpi": 90, "figure.constrained_layout.use": True, "axes.titlesize": "medium"}
WEIGHTS = Path(swahr.__file__).parents[1] / "notebooks" / "weights"
KINDS = ("sstn", "structured", "adversarial")


def show_picture(ax, picture, title):
    """Show an image in few colours, which keeps the notebook small; the axes are its pixels."""
    ax.imshow(picture & 0xF0, interpolation="nearest")
    ax.set(title=title, xlabel="x (pixels)", ylabel="y (pixels)")


def show_map(ax, values, title, **options):
    """Show a map of the crop, whose pixels are 4 x 4 pixels of the crop."""
    ax.set(title=title, xlabel="x (pixels of the map)", ylabel="y (pixels of the map)")
    return ax.imshow(values.detach(), interpolation="nearest", **options)


# %% [markdown]
# ## 1. The first stage
#
# A rendered crowd, so that the true keypoints are known, and what the bottom-up network finds in it.

# %%
source = SyntheticSource(
    size=1, seed=15, image_size=(160, 160), people=(3, 4), person_height=(0.8, 0.98), height_spread=2.0,
    facing=0.85, overlap=0.3, objects=(0, 1), clutter=(0, 2), background_contrast=0.4, blur=0.4, noise=3.0,
)  # fmt: skip
labelled, skeleton = source[0], source.skeleton
truth = labelled.annotations
first = Predictor.from_checkpoint(WEIGHTS / "first.safetensors", device="cpu")
poses = first(labelled.image)


def errors(pose, person):
    """Distance of each keypoint from the true one, in pixels; NaN where either is missing."""
    known = truth.visibility[person] > 0
    return np.where(known, np.linalg.norm(pose - truth.keypoints[person], axis=1), np.nan)


def found(all_poses):
    """The pose that is nearest to the person whom we follow."""
    return min(all_poses.keypoints, key=lambda pose: np.nanmedian(errors(pose, PERSON)))


PERSON = 1
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.8))
show_picture(axes[0], labelled.image, "image")
show_picture(axes[1], draw_poses(labelled.image, poses), f"first stage: {len(poses)} people")
plt.show()

# %% [markdown]
# Four people are in the image, one of them nearly hidden, and six are found. The woman on the left is in two
# parts: a pose with most of her keypoints, and a second one that mixes her arm with other people's joints.
# The first of them is the one that we follow.
#
# ## 2. The crop
#
# The frame is the box of the keypoints that were found, enlarged by 30 % and extended to the crop's shape. It
# is an affine map, `crop_from_image`; its inverse brings keypoints back to the image.

# %%
size = (128, 96)  # (h, w)
followed = int(np.argmin([np.nanmedian(errors(pose, PERSON)) for pose in poses.keypoints]))
crop_from_image = frames_of_people(poses, size, box_threshold=0.1)[followed]
crop = crop_people([labelled.image], [crop_from_image], size)  # (1 3 h w)
image_from_crop = crop_from_image.inverse()
corners = np.array([(0, 0), (96, 0), (96, 128), (0, 128), (0, 0)], dtype=float)

fig, axes = plt.subplots(1, 2, figsize=(7, 3.8))
show_picture(axes[0], labelled.image, "the frame of the crop")
axes[0].plot(*image_from_crop.apply(corners).T, color="red")
for ax, points in zip(axes, (poses.keypoints, crop_from_image.apply(poses.keypoints)), strict=True):
    ax.plot(*points[followed].T, "o", color="white", mec="black", label="found by the first stage")
true_in_crop = crop_from_image.apply(truth.keypoints[PERSON])
axes[1].plot(*true_in_crop[truth.visibility[PERSON] > 0].T, "x", color="tab:cyan", label="true")
show_picture(axes[1], crop[0].permute(1, 2, 0).numpy(), "crop")
axes[1].set(xlim=(0, 96), ylim=(128, 0))
axes[1].legend(loc="upper right", fontsize="x-small")
plt.show()

# %% [markdown]
# The crop shows her neighbour, too: only its frame says who is meant. Two crosses on the right have no circle
# in them: her left elbow and wrist, which the neighbour hides. Nor has the upper of the two crosses at her
# feet: the first stage put both of her ankles at one place.
#
# ## 3. The spatial transformer
#
# RMPE lets a small network look at the crop first. It predicts an affine map $\theta$ (2 × 3, in coordinates
# from -1 to 1), with which the crop is sampled once more. The single-person network sees the result, and its
# maps are brought back by the inverse map $\gamma$.

# %%
networks = {
    kind: build_network_from(load_checkpoint(WEIGHTS / f"{kind}.safetensors")).eval() for kind in KINDS
}
torch.set_grad_enabled(False)
sstn = networks["sstn"]
sampled, theta = sstn.transform(crop)
inside = sstn.network(sampled)
outside = sstn.restore(inside, theta)
print("theta =", np.array2string(theta[0].numpy(), precision=2, suppress_small=True, prefix="theta = "))

scale = np.array([48.0, 64.0])  # from -1 … 1 to pixels of the crop
seen = ((corners / scale - 1) @ theta[0, :, :2].numpy().T + theta[0, :, 2].numpy() + 1) * scale
fig, axes = plt.subplots(1, 4, figsize=(10, 3.6))
show_picture(axes[0], crop[0].permute(1, 2, 0).numpy(), "what theta sees")
axes[0].plot(*seen.T, color="red", clip_on=False)
shown = ((sampled * sstn.std + sstn.mean) * 255).round().clamp(0, 255).byte()
show_picture(axes[1], shown[0].permute(1, 2, 0).numpy(), "sampled by theta")
for ax, maps, title in ((axes[2], inside, "heatmaps of it"), (axes[3], outside, "restored by gamma")):
    picture = show_map(ax, maps[-1].heatmaps[0].amax(dim=0), title, cmap="magma", vmin=0, vmax=1)
fig.colorbar(picture, ax=axes[3], label="largest heat of all keypoints")
plt.show()

# %% [markdown]
# Theta is close to the identity: the red frame is hardly larger than the crop. This transformer has learned
# little, and the same network without one had a higher AP, with one seed ([study](../docs/second_stage.md)).
# What it shows is how the parts fit together: the maps on the left are those of the sampled crop, those on
# the right those of the crop.
#
# ## 4. Messages between keypoints
#
# In a structured head, every keypoint has feature maps of its own, and sends them along a tree: upward, from
# the leaves to the root, and downward again. A message is a stack of large convolutions, which can move a
# response from where the elbow is to where the wrist may be. The tree is a spanning tree of the limbs.

# %%
head = networks["structured"].heads[-1]["heatmaps"]
tree = spanning_tree(skeleton)
names = skeleton.keypoints
for level in tree.levels[1:]:
    print(", ".join(f"{names[tree.parents[k]]} → {names[k]}" for k in level))


def kernel(child):
    """The response of a child's feature maps to one pixel of its parent's: the root of the mean square."""
    depth = next(d for d, level in enumerate(tree.levels) if child in level)
    place, channels = tree.levels[depth].index(child), head.channels
    total = torch.zeros(25, 25)
    for channel in range(channels):
        pixel = torch.zeros(1, head.levels[depth] * channels, 25, 25)
        pixel[0, place * channels + channel, 12, 12] = 1
        sent = head.downward[depth - 1](pixel) - head.downward[depth - 1](torch.zeros_like(pixel))
        total += sent[0, place * channels : (place + 1) * channels].square().mean(dim=0)
    return (total / channels).sqrt()


pairs = [names.index(name) for name in ("left_elbow", "left_wrist", "left_knee", "left_ankle")]
fig, axes = plt.subplots(1, 4, figsize=(11, 2.9))
for ax, child in zip(axes, pairs, strict=True):
    title = f"{names[tree.parents[child]]} → {names[child]}"
    picture = ax.imshow(kernel(child), cmap="viridis", extent=(-50, 50, 50, -50))
    ax.plot(0, 0, "+", color="red")
    ax.set_title(title, fontsize="small")
    ax.set(xlabel="x (pixels of the crop)", ylabel="y (pixels of the crop)")
    fig.colorbar(picture, ax=ax, shrink=0.7)
plt.show()

# %% [markdown]
# The red cross is a pixel of the parent's maps; around it is what a response there adds to the child's
# maps, as far as two convolutions of 7 × 7 reach. None of the four messages has a clear direction, though
# knees are below hips: they spread to all sides, and those to wrists and ankles stay mostly at the pixel.
#
# And here, for our person: the heatmaps with all messages set to 0, as they are, and the difference.

# %%
with_messages = networks["structured"](crop)[-1].heatmaps[0]
silent = build_network_from(load_checkpoint(WEIGHTS / "structured.safetensors")).eval()
for stack in (*silent.heads[-1]["heatmaps"].upward, *silent.heads[-1]["heatmaps"].downward):
    torch.nn.init.zeros_(list(stack.children())[-1].weight)
without = silent(crop)[-1].heatmaps[0]
KEYPOINT = names.index("left_hip")
fig, axes = plt.subplots(1, 3, figsize=(9, 3.4))
for ax, maps, title in zip(
    axes, (without, with_messages), ("without messages", "with messages"), strict=False
):
    picture = show_map(ax, maps[KEYPOINT], f"{names[KEYPOINT]}, {title}", cmap="magma", vmin=0, vmax=1)
fig.colorbar(picture, ax=axes[1], label="heat")
picture = show_map(axes[2], (with_messages - without)[KEYPOINT], "difference", cmap="RdBu_r", vmin=-1, vmax=1)
fig.colorbar(picture, ax=axes[2], label="difference of heat")
for ax in axes:
    ax.plot(*(true_in_crop[KEYPOINT] / 4 - 0.5), "x", color="tab:cyan", label="true position")
axes[0].legend(loc="lower left", fontsize="small")
plt.show()

# %% [markdown]
# Without messages, little says which of the two hips this is, or whose: there is weak heat in many places.
# With them, the left hip is where it belongs. The comparison says how much this network relies on messages,
# not how good they are: a plain head, trained without them, may find the hip by other means. What is known
# of the two is in the [study](../docs/second_stage.md).
#
# ## 5. The discriminators
#
# In adversarial training, P sees the image and the maps, C the maps alone. They learn to give annotated maps
# a score of 1, and predicted maps the share that is right. Below are three sets of maps of our person: those
# of the annotation, those that the network predicts, and the annotated ones with the left wrist shifted by
# 20 pixels.

# %%
generator = networks["adversarial"]
weights = load_file(WEIGHTS / "discriminators.safetensors")
judges = {
    "P": ("pose", PoseDiscriminator(17, maps=2)),
    "C": ("confidence", ConfidenceDiscriminator(17, maps=2)),
}
for prefix, judge in judges.values():
    own = {name.removeprefix(f"{prefix}."): w for name, w in weights.items() if name.startswith(prefix)}
    judge.load_state_dict(own)
encode = TargetEncoder((4,), sigma=1.0, centre="unbiased", extra={"occlusion": OcclusionTarget()})


def annotated_maps(keypoints):
    """Heatmaps and occlusion maps of the person, as in training."""
    batch = Batch(
        images=crop,
        keypoints=torch.tensor(keypoints, dtype=torch.float32)[None, None],
        visibility=torch.tensor(truth.visibility[PERSON], dtype=torch.int64)[None, None],
        valid=torch.ones(1, *size, dtype=torch.bool),
        image_ids=(0,),
        input_from_image=(crop_from_image,),
    )
    fields = encode(batch).maps[-1].fields
    return torch.cat([fields["heatmaps"], fields["occlusion"]], dim=1)


moved = true_in_crop.copy()
moved[names.index("left_wrist")] += (-20, 0)
predicted = generator(crop)[-1]
sets = {
    "annotated": annotated_maps(true_in_crop),
    "predicted": torch.cat([predicted.heatmaps, predicted.fields["occlusion"]], dim=1),
    "wrist moved": annotated_maps(moved),
}
fig, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
for ax, (title, (_, judge)) in zip(axes, judges.items(), strict=True):
    for offset, (name, maps) in zip((-0.27, 0, 0.27), sets.items(), strict=True):
        scores = torch.sigmoid(judge(crop, maps))[0].numpy()
        ax.bar(np.arange(17) + offset, scores, width=0.25, label=name)
    ax.set_xticks(range(17), names, rotation=60, ha="right", fontsize="small")
    ax.set(
        title=f"scores of {title}", xlabel="keypoint", ylabel="score (1: like annotated maps)", ylim=(0, 1)
    )
axes[1].legend(fontsize="small")
plt.show()

# %% [markdown]
# Annotated maps have scores near 1, and so do those with the wrist moved by 20 pixels: these discriminators
# recognise clean Gaussians rather than right positions. Predicted maps have lower scores, in most cases the
# lower the less heat they have. P, which sees the image, trusts them more than C does.
#
# ## 6. The final pose
#
# `Predictor` with a second stage is all of the above in one call, for every person, also with mirrored crops.
# The same keypoints, before and after:

# %%
after = {
    kind: Predictor.from_checkpoint(
        WEIGHTS / "first.safetensors", second_stage=WEIGHTS / f"{kind}.safetensors", device="cpu"
    )(labelled.image)
    for kind in KINDS
}
rows = {"first stage": found(poses), **{kind: found(each) for kind, each in after.items()}}
for kind, pose in rows.items():
    off = errors(pose, PERSON)
    worst = int(np.nanargmax(off))
    print(f"{kind:12s} median {np.nanmedian(off):4.1f} px, largest {off[worst]:4.1f} px ({names[worst]})")

fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.8))
show_picture(axes[0], draw_poses(labelled.image, poses), "first stage")
show_picture(axes[1], draw_poses(labelled.image, after["structured"]), "both stages (structured)")
plt.show()

# %% [markdown]
# The largest error of the first stage was a wrist on the neighbour; all three networks put it near the right
# place. The median error grows: these networks have maps of stride 4, the first stage also those of stride
# 2, so they mend gross errors and not small ones. A person who was found twice still is, now as two poses
# that are nearly alike: pose NMS removes one of them.
#
# One person is an example and proves nothing. AP with intervals, over 600 images, is in the
# [study](../docs/second_stage.md).
