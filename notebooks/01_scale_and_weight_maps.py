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
# # Scale maps and weight maps
#
# A bottom-up pose network predicts *heatmaps*: one image per type of keypoint, bright at its positions.
# Luo et al. (*Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation*, CVPR 2021) let the
# network choose the width of its targets through a *scale map* $\alpha$ (SAHR), and *weight* the error of
# every pixel (WAHR). This notebook draws both on a rendered crowd, with the functions that training calls.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from swahr.data import collate
from swahr.draw import draw_annotations
from swahr.draw.maps import draw_map
from swahr.geometry import Affine
from swahr.loss import Criterion, ExactTarget, HeatmapRegression, ScaleMapPenalty, TaylorTarget
from swahr.loss.heatmap import adapted_target, derived_weight, learned_weight, support_only, weight_penalty
from swahr.structures import ABSENT, Maps, MapTargets, Sample, Targets
from swahr.synthetic import SyntheticSource
from swahr.targets import TargetEncoder
from swahr.targets.pixels import centre_pixels, map_indices

plt.rcParams |= {"figure.dpi": 90, "figure.constrained_layout.use": True, "axes.titlesize": "medium"}


def show(ax, values, title, colours="magma", limits=(0, 1)):
    """Show a map as an image; return it for a colour bar."""
    ax.set(title=title, xticks=[], yticks=[])
    smooth = None if values.ndim == 3 else "nearest"
    return ax.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation=smooth)


# %% [markdown]
# ## 1. Targets
#
# `SyntheticSource` renders people whose keypoints are known exactly. `TargetEncoder` draws a Gaussian of peak
# 1 at each keypoint, on one map per *stride*: at stride 4 a pixel of the map covers 4 × 4 pixels of the
# image. Overlapping Gaussians of several people are combined by their maximum.

# %%
source = SyntheticSource(size=8, seed=0)
crowd = source[2]
batch = collate([Sample(crowd.image, crowd.annotations, crowd.valid, crowd.image_id, Affine.identity())])
encode = TargetEncoder(strides=(4, 2), centre="truncated")
targets = encode(batch)

fig, axes = plt.subplots(1, 3, figsize=(9, 3.3))
show(axes[0], draw_annotations(crowd.image, crowd.annotations, source.skeleton), "a crowd and its keypoints")
for ax, target in zip(axes[1:], targets.maps, strict=True):
    picture = draw_map(crowd.image, "heatmaps", target.heatmaps[0], target.heatmaps[0])
    show(ax, picture, f"targets at stride {target.stride}, {target.heatmaps.shape[-1]} pixels wide")
plt.show()

# %% [markdown]
# Every hue is the map of one type of keypoint. All Gaussians have one standard deviation, $\sigma_0$ = 2
# pixels of the map, for near and distant people. But the precision of a keypoint depends on the person's
# size. COCO measured it, by comparing annotators, in units of the square root of the person's area:

# %%
spread = dict(zip(source.skeleton.keypoints, source.skeleton.sigmas, strict=True))
for size in np.sort(np.sqrt(crowd.annotations.area)):
    nose, hip = size * spread["nose"], size * spread["left_hip"]
    print(f"person of size {size:3.0f} px: annotators differ by {nose:.1f} px (nose), {hip:.1f} px (hip)")
widths = ", ".join(f"{encode.sigma * s:g} px at stride {s}" for s in encode.strides)
print(f"width of the targets, for all people: {widths}")

# %% [markdown]
# **The centre of the Gaussian.** By default (`truncated`) it is the pixel that contains the keypoint, with an
# error of up to half a pixel in x and in y. With `centre="unbiased"` (DARK, CVPR 2020) it is the keypoint
# itself, and the values of pixels encode its sub-pixel position. The keypoint with the largest error is shown
# below.

# %%
stride = encode.strides[0]
unbiased = TargetEncoder(strides=encode.strides, centre="unbiased")(batch)
indices = map_indices(batch.keypoints, stride, "centre")[0]
lost = (centre_pixels(indices, "truncated", "centre") - indices).norm(dim=-1) * (batch.visibility[0] > ABSENT)
person, keypoint = divmod(int(lost.argmax()), source.skeleton.num_keypoints)
x, y = indices[person, keypoint].tolist()
window = {"xlim": (round(x) - 5.5, round(x) + 5.5), "ylim": (round(y) + 5.5, round(y) - 5.5)}

fig, axes = plt.subplots(1, 3, figsize=(10, 3), width_ratios=(1, 1, 1.6))
for ax, name, encoded in zip(axes, ("truncated", "unbiased"), (targets, unbiased), strict=False):
    heatmap = encoded.maps[0].heatmaps[0, keypoint]
    show(ax, heatmap, name)
    ax.plot(x, y, "x", color="tab:cyan", markersize=11, markeredgewidth=2.5)
    ax.set(**window)
    axes[2].plot(heatmap[round(y)], "o-", label=name)
axes[2].axvline(x, color="tab:cyan", label="the keypoint")
axes[2].set(xlim=window["xlim"], title="the keypoint's row", xlabel="pixel of the map", ylabel="target")
axes[2].legend(loc="lower center", fontsize="small")
plt.show()
known = stride * lost[batch.visibility[0] > ABSENT]
print(f"truncated: off by {known.mean():.1f} px of the image on average, {known.max():.1f} px at most")

# %% [markdown]
# ## 2. What a scale map does to the target
#
# The network predicts $\alpha$ on the target's support $\{h > 0\}$; the target becomes $h^{1+\alpha}$,
# a Gaussian of $\sigma = \sigma_0 / \sqrt{1+\alpha}$. So $\alpha > 0$ narrows the target, $\alpha < 0$ widens
# it, and 0 does not change it. The official code does not compute the power but its second-order Taylor
# expansion about $\alpha = 0$, $\;h\,(1 + \alpha\ln h + \frac{1}{2}(\alpha\ln h)^2)$. `adapted_target` has
# both (`loss=sahr` uses `taylor`). Lines are Gaussians of $\sigma_0 / \sqrt{1+\alpha}$; dots are the targets.

# %%
offsets = torch.arange(21.0) - 10


def gaussian(sigma):
    """One Gaussian in the middle of a map, (1, 1, 21, 21), cut off like those of targets."""
    radius = int(3 * sigma + 1)
    profile = torch.exp(-offsets.square() / (2 * sigma**2)) * (offsets.abs() <= radius)
    return (profile[:, None] * profile)[None, None]


def adapted(alpha, form):
    """The target for one alpha everywhere, (21, 21)."""
    return adapted_target(base, support_only(torch.full_like(base, alpha), base), form)[0, 0]


base = gaussian(encode.sigma)
forms = ("exact", "taylor")
alphas = np.array([-0.75, -0.5, 0, 1, 3])
shades = ("navy", "tab:blue", "0.4", "tab:orange", "tab:red")

fig, axes = plt.subplots(1, 3, figsize=(11, 3.3))
r = np.linspace(0, 7, 200)
for alpha, shade in zip(alphas, shades, strict=True):
    sigma = encode.sigma / np.sqrt(1 + alpha)
    for ax, form in zip(axes, forms, strict=False):
        label = rf"$\alpha$ = {alpha:g}: $\sigma$ = {sigma:.2g}"
        ax.plot(r, np.exp(-(r**2) / (2 * sigma**2)), color=shade, label=label)
        ax.plot(range(8), adapted(alpha, form)[10, 10:18], "o", color=shade)
        ax.set(title=form, xlabel="distance r from the keypoint (pixels)", ylabel="target", ylim=(-0.05, 1.9))
axes[0].legend(fontsize="small")
scan = np.linspace(-0.9, 3, 79)
axes[2].semilogy(scan, [(adapted(a, "taylor") - adapted(a, "exact")).abs().max() for a in scan], "k")
axes[2].set(title="largest error of taylor", xlabel=r"$\alpha$", ylabel="|taylor - exact|", ylim=(1e-5, 10))
plt.show()

for alpha in alphas:
    (exact4, exact6), (taylor4, taylor6) = (adapted(alpha, form)[10, [14, 16]].tolist() for form in forms)
    at4, at6 = f"{exact4:.4f}, taylor {taylor4:.4f}", f"{exact6:.4f}, taylor {taylor6:.4f}"
    print(f"alpha {alpha:5.2f}   at r = 4: exact {at4}   at r = 6: exact {at6}")

# %%
fig, axes = plt.subplots(2, len(alphas), figsize=(10, 4.2))
for line, form in zip(axes, forms, strict=True):
    for ax, alpha in zip(line, alphas, strict=True):
        picture = show(ax, adapted(alpha, form), rf"{form}, $\alpha$ = {alpha:g}")
fig.colorbar(picture, ax=axes, label="target", extend="max")
plt.show()

# %% [markdown]
# - **Taylor's form is accurate** near $\alpha = 0$. For $\alpha < 0$ it still has a peak, but thin tails.
# - **It is wrong** in the tails for $\alpha > 0$: they decrease too slowly, beyond $\alpha = 1$ they rise
#   again, and at $\alpha = 3$ a ring is higher than the peak.
# - **Neither form enlarges the support.** The square on which $h > 0$ is fixed, and truncates wide targets.
#
# **Which way does learning push $\alpha$?** The loss $(P - h^{1+\alpha})^2$ reaches $\alpha$ through the
# target. Here `Criterion` computes it for a fixed prediction $P$, narrower or wider than the target.


# %%
def terms(prediction, alpha, form="exact", factor=0.0):
    """The loss of one target, summed over pixels: the heatmap term, and `factor` times the regulariser."""
    regression = HeatmapRegression(adaptation=ExactTarget() if form == "exact" else TaylorTarget())
    criterion = Criterion({"heatmap": regression, "scale_map": ScaleMapPenalty(factor)})
    maps = Maps(4, {"heatmaps": prediction, "scale_maps": alpha})
    wanted = MapTargets(4, valid=torch.ones(1, 21, 21, dtype=torch.bool), fields={"heatmaps": base})
    loss = criterion((maps,), Targets((wanted,), tag_index=torch.full((1, 1, 1), -1)))
    return base.numel() * loss["heatmap_4"].sum(), base.numel() * loss["scale_map_4"].sum()


widths = {"narrower": 1.4, "wider": 2.8}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.3), width_ratios=(1, 1, 1.6))
for ax, colour, (name, sigma) in zip(axes, ("tab:red", "tab:blue"), widths.items(), strict=False):
    alpha = torch.zeros_like(base, requires_grad=True)
    terms(gaussian(sigma), alpha)[0].backward()
    picture = show(ax, -alpha.grad[0, 0], rf"{name} prediction ($\sigma$ = {sigma})", "RdBu_r", (-0.2, 0.2))
    for form, dash in zip(forms, ("-", ":"), strict=True):
        losses = [terms(gaussian(sigma), torch.full_like(base, a), form)[0] for a in scan]
        axes[2].plot(scan, losses, dash, color=colour, label=f"{name}, {form}")
    best = (encode.sigma / sigma) ** 2 - 1
    axes[2].axvline(best, color=colour, linewidth=0.8, linestyle="--")
    push = "up" if alpha.grad.sum() < 0 else "down"
    print(f"{name} prediction: alpha is pushed {push}; at alpha = {best:+.2f} the target has its width")
fig.colorbar(picture, ax=axes[:2], label=r"push on $\alpha$, from 0", shrink=0.8)
axes[2].set(xlabel=r"$\alpha$, the same at all pixels", ylabel="heatmap loss", ylim=(0, 16))
axes[2].set_title(r"loss (dashed: $\alpha$ of the prediction's width)")
axes[2].legend(ncols=2, loc="upper right", fontsize="small")
plt.show()

# %% [markdown]
# A narrow prediction pushes $\alpha$ up (red), so that the target narrows too; a wide one pushes it down. The
# push comes from a ring, because $h^{1+\alpha}$ is 1 at the peak and about 0 far out for every $\alpha$.
# Taylor's form (dotted) has its optimum elsewhere for the narrow prediction, and a false one for the wide.
#
# **The regulariser.** Without a penalty, the target would follow any prediction. So the mean of $\alpha^2$ is
# added, times a factor (`loss.terms.scale_map.weight`). How far does $\alpha$ get with the official factor 1,
# and with smaller ones?

# %%
lines = []
for name, factor in [(name, factor) for name in widths for factor in (1.0, 0.1, 0.01)]:
    prediction, alpha = gaussian(widths[name]), torch.zeros_like(base, requires_grad=True)
    optimiser = torch.optim.Adam([alpha], lr=0.03)
    for _ in range(200):
        optimiser.zero_grad()
        sum(terms(prediction, alpha, factor=factor)).backward()
        optimiser.step()
    left = terms(prediction, alpha)[0] / terms(prediction, 0 * base)[0]
    farthest = alpha.flatten()[alpha.abs().argmax()]
    lines.append(
        f"{name + ',':9s} factor {factor:4g}: alpha up to {farthest:+.2f}, {left:3.0%} of the loss left"
    )
print("\n".join(lines))

# %% [markdown]
# With factor 1, the target moves only a small part of the way towards the prediction, within the range in
# which Taylor's form is accurate. The weaker the regulariser, the more `exact` matters.
#
# ## 3. How weights balance foreground and background
#
# WAHR multiplies each pixel's squared error by a weight that is derived from the prediction $P$:
# $w = |1 - P|\,h^\gamma + |P|\,(1 - h^\gamma)$. With $\gamma = 0.01$, $h^\gamma$ is a switch: about 1 where
# $h > 0$, the *foreground*, and 0 elsewhere. So $w$ is about $|1 - P|$ on the foreground and $|P|$ off it.

# %%
h = targets.maps[0].heatmaps
noise = 0.1 * torch.randn(h.shape, generator=torch.Generator().manual_seed(0))
ghosts = torch.maximum(h, 0.7 * h.flip(-1))
predictions = {"blank": 0 * h, "perfect": h, "noisy": h + noise, "ghosts": ghosts}
shown = [("blank", 1.0), ("blank", 0.1), *((name, 0.01) for name in predictions)]
channel = source.skeleton.keypoints.index("left_shoulder")
fig, axes = plt.subplots(2, len(shown), figsize=(11, 3.9))
for (above, below), (name, gamma) in zip(axes.T, shown, strict=True):
    picture = show(above, predictions[name][0, channel], f"prediction: {name}")
    show(below, derived_weight(predictions[name], h, gamma)[0, channel], rf"weight, $\gamma$ = {gamma:g}")
fig.colorbar(picture, ax=axes, label="left shoulder")
plt.show()

# %% [markdown]
# The weight of a blank prediction is the switch itself: at $\gamma = 1$ it is the heatmap, at 0.01 the square
# on which the heatmap is not 0. On the background the weight equals the absolute error: small for noise,
# large for a ghost. The foreground's share of the loss, over all keypoints of the crowd:

# %%
predictions |= {"noisy, half as high": h / 2 + noise, "noisy ghosts": ghosts + noise}
foreground = h > 0
gammas = (0.001, 0.01, 0.1, 1.0)
lines = [f"{foreground.float().mean():.0%} of the pixels are foreground; of the loss:"]
for name in ("noisy", "noisy, half as high", "noisy ghosts"):
    weights = {"mse": 1.0} | {f"gamma {g:g}": derived_weight(predictions[name], h, g) for g in gammas}
    losses = {column: (predictions[name] - h).square() * weight for column, weight in weights.items()}
    shares = [f"{column} {loss[foreground].sum() / loss.sum():.0%}" for column, loss in losses.items()]
    lines.append(f"{name + ':':21s}" + "   ".join(shares))
print("\n".join(lines))

# %% [markdown]
# Most of the loss of plain regression is due to noise in the background, which has most of the pixels. WAHR
# shifts it towards the keypoints. $\gamma$ sets the sharpness of the switch: 0.01 is nearly a step.
#
# **A learned weight.** With `loss=wahr_learned` the network predicts a map $v$, and $w = e^v$. Alone, $w = 0$
# would minimise the loss. So $\lambda\,(w - 1 - \ln w)$ is added, with its minimum at $w = 1$ ($\lambda$ is
# `loss.terms.weight_map.weight`). For a residual $r = P - h$ the minimum of the sum is at
# $w = \lambda / (\lambda + r^2)$.

# %%
v = torch.linspace(-8, 1, 20001).view(1, 1, 1, -1)
r = torch.linspace(0, 1, 51).view(1, 1, -1, 1)
weights = {"mse": torch.ones_like(r), "wahr, background": derived_weight(r, torch.zeros_like(r), gamma=0.01)}
costs = {name: weight * r.square() for name, weight in weights.items()}
for factor in (1.0, 0.1):
    least = (learned_weight(v) * r.square() + factor * weight_penalty(v)).min(dim=-1)
    name = f"learned, factor {factor:g}"
    weights[name], costs[name] = learned_weight(v).flatten()[least.indices], least.values
    error = (weights[name].flatten() - (factor / (factor + r.square())).flatten()).abs().max()
    print(f"{name}: the best weight on a fine grid is within {error:.4f} of the formula")

fig, axes = plt.subplots(1, 2, figsize=(9, 3.3))
for ax, curves, title in zip(axes, (weights, costs), ("weight", "loss of the pixel"), strict=True):
    for name, curve in curves.items():
        ax.plot(r.flatten(), curve.flatten(), label=name)
    ax.set(xlabel="residual |r|", title=title)
axes[1].legend()
plt.show()

# %% [markdown]
# The two have opposite effects. The derived weight increases with the error, which emphasises hard pixels.
# The learned weight decreases with it, so that the network can ignore what it cannot predict, such as wrong
# labels. To compare them in training: `swahr train -m loss=mse,sahr,wahr,swahr,wahr_learned`.
