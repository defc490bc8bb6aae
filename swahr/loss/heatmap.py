"""Heatmap regression: targets that follow scale maps (SAHR), and pixel weights (WAHR).

Luo et al., Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation, CVPR 2021, sections 3.2
and 3.3. All functions keep the dtype of their input; `swahr.loss.Criterion` calls them in float32 or wider.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from swahr.structures import Maps

Heatmaps = Float[Tensor, "b k h w"]  # and maps of the same shape

SMALLEST_EXPONENT = 0.01
"""Lower bound of 1 + alpha = 1 / s^2, which is positive for every real s; 0.01 is s = 10."""

_SMALLEST_HEAT = 1e-30
"""Far below any value of a Gaussian target, and far above the smallest number in float32."""


def squared_difference(values: Float[Tensor, "*n"], others: Tensor | float) -> Float[Tensor, "*n"]:
    """Return (values - others)^2 in one pass over memory and one per gradient, where `square` takes three."""
    if not isinstance(others, Tensor):
        others = values.new_full((), others).expand_as(values)
    return F.mse_loss(values, others, reduction="none")


def support_only(
    scale_map: Float[Tensor, "b k h w"], heatmaps: Float[Tensor, "b k h w"]
) -> Float[Tensor, "b k h w"]:
    """Return the scale map's alpha, set to zero outside the target's support {h > 0}."""
    return torch.where(heatmaps > 0, scale_map, 0.0)


def adapted_target(
    heatmaps: Float[Tensor, "*n"], alpha: Float[Tensor, "*n"], form: Literal["taylor", "exact"]
) -> Float[Tensor, "*n"]:
    """Return the Gaussian target h with its deviation multiplied by s, where alpha = 1 / s^2 - 1.

    ``exact`` is h^max(1 + alpha, 0.01), and 0 where h is 0. The bound (s <= 10) is needed because for
    alpha <= -1 the power has no peak and is unbounded. ``taylor`` is the second-order expansion
    h (1 + alpha ln h + (alpha ln h)^2 / 2) of section 3.2, as in the official code; it is inaccurate in the
    tails for alpha > 0. Gradients are finite everywhere, and alpha = 0 returns h.

    Args:
        heatmaps: the base target h, in [0, 1].
        alpha: the scale map; its values outside the support {h > 0} have no effect.
        form: ``exact`` or ``taylor``.
    """
    log_heatmaps = heatmaps.clamp(min=_SMALLEST_HEAT).log()  # where h is 0, h times anything finite is 0
    if form == "exact":
        return heatmaps * torch.exp(alpha.clamp(min=SMALLEST_EXPONENT - 1) * log_heatmaps)
    # 1 + x + x^2 / 2 = ((1 + x)^2 + 1) / 2: fewer passes over the maps.
    half = heatmaps / 2
    return torch.addcmul(half, half, squared_difference(alpha * log_heatmaps, -1.0))


def derived_weight(
    predictions: Float[Tensor, "*n"], heatmaps: Float[Tensor, "*n"], gamma: float
) -> Float[Tensor, "*n"]:
    """Return the weight derived from the prediction P: |1 - P| h^gamma + |P| (1 - h^gamma) (section 3.3).

    It is large where the network errs: about |1 - P| on the base target's support, |P| outside. As in the
    official code, h is the unadapted target and P is not detached.
    """
    return torch.lerp(predictions.abs(), (predictions - 1).abs(), heatmaps.pow(gamma))


def learned_weight(weight_map: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Return the weight w = exp(v) of a predicted weight map v; the initial v = 0 is the plain loss."""
    return weight_map.exp()


def weight_penalty(weight_map: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Return w - 1 - log w per pixel, with w = exp(v): it keeps a learned weight from vanishing.

    It is 0 only at w = 1, and infinite at w = 0 and at infinity. With the residual r = P - h', the sum
    w r^2 + l (w - 1 - log w) has its minimum at w = l / (l + r^2). This is the inverse-variance weight of
    Kendall & Gal (What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?, NeurIPS 2017)
    with a noise floor l, without which pixels of vanishing residual would get infinite weight. At this w the
    sum is the Cauchy loss l log(1 + r^2 / l): the head learns where the target is unreliable.
    """
    return weight_map.exp() - 1 - weight_map


def masked_mean(values: Float[Tensor, "b k h w"], valid: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return, per image, the sum over valid pixels divided by *all* k h w pixels, as in the official code."""
    return torch.where(valid, values.mean(dim=1), 0.0).mean(dim=(1, 2))


@runtime_checkable
class Adaptation(Protocol):
    """Adapts the loss at a stride to its predicted maps, of which it reads those named in ``needs``."""

    needs: frozenset[str]

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        """Return the adapted target, or the weight of each pixel, given the Gaussian target ``heatmaps``."""


class TaylorTarget:
    """SAHR's target as in the official code (``taylor`` in `adapted_target`)."""

    needs = frozenset({"scale_maps"})

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        return adapted_target(heatmaps, maps.fields["scale_maps"], "taylor")


class ExactTarget:
    """SAHR's target h^(1 + alpha) itself (``exact`` in `adapted_target`)."""

    needs = frozenset({"scale_maps"})

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        return adapted_target(heatmaps, maps.fields["scale_maps"], "exact")


class DerivedWeight:
    """WAHR's weight as in the official code (`derived_weight`).

    Args:
        gamma: exponent of the foreground map h^gamma.

    Raises:
        ValueError: ``gamma`` is not positive.
    """

    needs = frozenset({"heatmaps"})

    def __init__(self, gamma: float = 0.01) -> None:
        if gamma <= 0:
            raise ValueError(f"loss gamma: expected a positive exponent, got {gamma}")
        self.gamma = gamma

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        return derived_weight(maps.heatmaps, heatmaps, self.gamma)


class LearnedWeight:
    """The exponential of a predicted weight map; the loss then needs a `swahr.loss.WeightMapPenalty`."""

    needs = frozenset({"log_weight_maps"})

    def __call__(self, maps: Maps, _: Heatmaps) -> Heatmaps:
        return learned_weight(maps.fields["log_weight_maps"])
