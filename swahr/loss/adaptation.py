"""Adaptations of heatmap regression: targets that follow scale maps (SAHR), and pixel weights (WAHR).

Luo et al., Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation, CVPR 2021, sections 3.2 and
3.3; the formulas are in `swahr.loss.heatmap`.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from swahr.loss.heatmap import adapted_target, derived_weight, learned_weight
from swahr.structures import Maps

Heatmaps = Float[Tensor, "b k h w"]  # and maps of the same shape


@runtime_checkable
class Adaptation(Protocol):
    """Adapts the loss at a stride to its predicted maps, of which it reads those named in ``needs``."""

    needs: frozenset[str]

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        """Return the adapted target, or the weight of each pixel, given the Gaussian target ``heatmaps``."""


class TaylorTarget:
    """SAHR's target as in the official code (``taylor`` in `swahr.loss.heatmap.adapted_target`)."""

    needs = frozenset({"scale_maps"})

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        return adapted_target(heatmaps, maps.fields["scale_maps"], "taylor")


class ExactTarget:
    """SAHR's target h^(1 + alpha) itself (``exact`` in `swahr.loss.heatmap.adapted_target`)."""

    needs = frozenset({"scale_maps"})

    def __call__(self, maps: Maps, heatmaps: Heatmaps) -> Heatmaps:
        return adapted_target(heatmaps, maps.fields["scale_maps"], "exact")


class DerivedWeight:
    """WAHR's weight as in the official code (`swahr.loss.heatmap.derived_weight`).

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
