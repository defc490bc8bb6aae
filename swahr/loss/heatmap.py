"""Heatmap regression: plain, scale-adaptive (SAHR), weight-adaptive (WAHR).

Luo et al., Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation, CVPR 2021, sections 3.2
and 3.3. All functions keep the dtype they are given; `swahr.loss.Criterion` calls them in float32 or wider.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ScaleTarget = Literal["none", "taylor", "exact"]
Weighting = Literal["none", "derived", "learned"]

SMALLEST_EXPONENT = 0.01
"""1 + alpha = 1 / s^2 is positive for every real s; this bound is s = 10, a keypoint ten times as wide."""


def support_only(
    scale_map: Float[Tensor, "b k h w"], heatmaps: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b k h w"]:
    """The scale map's alpha, zero outside the target's support {h > 0}, where it has no meaning."""
    return torch.where(heatmaps > 0, scale_map, 0.0)


def adapted_target(
    heatmaps: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], form: Literal["taylor", "exact"]
) -> Float[Tensor, "*n"]:
    """The Gaussian target h with its deviation multiplied by s, where alpha = 1 / s^2 - 1.

    ``exact`` is h^max(1 + alpha, 0.01), 0 where h is 0; the bound (s <= 10) is there because for
    alpha <= -1 the power is no longer a peak and grows without limit. ``taylor`` is the second-order
    expansion h (1 + alpha ln h + (alpha ln h)^2 / 2) of section 3.2, which the official code uses; it is
    wrong in the tails for alpha > 0. Gradients are finite everywhere, and alpha = 0 gives h back.

    Args:
        heatmaps: the base target h, in [0, 1].
        alpha: from `support_only`.
        form: which of the two.
    """
    log_heatmaps = torch.where(heatmaps > 0, heatmaps, 1.0).log()
    if form == "exact":
        return heatmaps * torch.exp(alpha.clamp(min=SMALLEST_EXPONENT - 1) * log_heatmaps)
    # 1 + x + x^2 / 2 = ((1 + x)^2 + 1) / 2: fewer passes over the maps.
    half = heatmaps / 2
    return torch.addcmul(half, half, (1 + alpha * log_heatmaps).square())


def derived_weight(
    predictions: Float[Tensor, "*n"], heatmaps: Float[Tensor, "*n"], gamma: float
) -> Float[Tensor, "*n"]:
    """The weight that the prediction P itself implies: |1 - P| h^gamma + |P| (1 - h^gamma) (section 3.3).

    Large where the network errs: near |1 - P| on the base target's support, |P| off it. h is the unadapted
    target and P is not detached, as in the official code.
    """
    return torch.lerp(predictions.abs(), (1 - predictions).abs(), heatmaps.pow(gamma))


def learned_weight(weight_map: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """The weight w = exp(v) of a predicted weight map v; v = 0, where training starts, is the plain loss."""
    return weight_map.exp()


def weight_penalty(weight_map: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """What keeps a learned weight from winning by vanishing: w - 1 - log w, with w = exp(v), per pixel.

    It is 0 at w = 1 only and infinite at w = 0 and at infinity. Together with the residual r = P - h',
    w r^2 + l (w - 1 - log w) is least at w = l / (l + r^2): the inverse-variance weight of Kendall & Gal
    (What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?, NeurIPS 2017) over a
    noise floor l, without which pixels of vanishing residual would take infinite weight. Put in, that w gives
    the Cauchy loss l log(1 + r^2 / l): the head learns where the target cannot be trusted.
    """
    return weight_map.exp() - 1 - weight_map


def masked_mean(values: Float[Tensor, "b k h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Per image, the sum over valid pixels divided by *all* k h w pixels (the official normalisation)."""
    return torch.where(valid, values.mean(dim=1), 0.0).mean(dim=(1, 2))
