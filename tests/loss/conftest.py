from collections.abc import Callable

import pytest
import torch

from swahr.loss import (
    Criterion,
    DerivedWeight,
    ExactTarget,
    HeatmapRegression,
    LearnedWeight,
    ScaleMapPenalty,
    TagLoss,
    TaylorTarget,
    WeightMapPenalty,
)
from swahr.structures import Maps, MapTargets, NetworkOutput, Targets

Scene = tuple[NetworkOutput, Targets]

TARGETS = {"none": None, "taylor": TaylorTarget(), "exact": ExactTarget()}
PIXEL_WEIGHTS = {"none": None, "derived": DerivedWeight(gamma=0.01), "learned": LearnedWeight()}


@pytest.fixture
def criterion() -> Callable[..., Criterion]:
    """The plain loss; arguments adapt its target, weigh its pixels and change the terms' factors."""

    def build(
        target: str = "none",
        pixel_weight: str = "none",
        *,
        heatmap: float = 1.0,
        scale_map: float = 1.0,
        weight_map: float = 1.0,
        pull: float = 0.001,
        push: float = 0.001,
    ) -> Criterion:
        terms = {
            "heatmap": HeatmapRegression(heatmap, TARGETS[target], PIXEL_WEIGHTS[pixel_weight]),
            "tags": TagLoss(pull, push, "gaussian"),  # as published
        }
        if target != "none":
            terms["scale_map"] = ScaleMapPenalty(scale_map)
        if pixel_weight == "learned":
            terms["weight_map"] = WeightMapPenalty(weight_map)
        return Criterion(terms)

    return build


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """A random output, whose maps are leaves, and targets with empty, filled and invalid pixels.

    Two images, three keypoints, strides 4 and 2; ``size`` is the side of the coarse maps.
    """

    def build(*, people: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64, size: int = 8) -> Scene:
        generator = torch.Generator().manual_seed(seed)

        def leaf(side: int) -> torch.Tensor:
            values = torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64) / 2
            return values.to(dtype).requires_grad_()

        output, targets = [], []
        for stride, side in ((4, size), (2, 2 * size)):
            fields = {"tags": leaf(side)} if stride == 4 else {}
            fields |= {name: leaf(side) for name in ("heatmaps", "scale_maps", "log_weight_maps")}
            output.append(Maps(stride, fields))
            heatmaps = (torch.rand(2, 3, side, side, generator=generator) * 2 - 1).clamp(min=0)
            valid = torch.rand(2, side, side, generator=generator) < 0.8
            targets.append(MapTargets(stride, valid, {"heatmaps": heatmaps}))
        tag_index = torch.randint(-1, size**2, (2, people, 3), generator=generator)
        return tuple(output), Targets(tuple(targets), tag_index)

    return build
