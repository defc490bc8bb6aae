from collections.abc import Callable
from typing import Any

import pytest
import torch

from swahr.loss import Criterion
from swahr.structures import Maps, MapTargets, NetworkOutput, Targets

PLAIN: dict[str, Any] = {
    "scale_target": "none",
    "weight": "none",
    "gamma": 0.01,
    "heatmap_weight": 1.0,
    "scale_map_weight": 1.0,
    "weight_map_weight": 1.0,
    "pull_weight": 0.001,
    "push_weight": 0.001,
}
Scene = tuple[NetworkOutput, Targets]


@pytest.fixture
def criterion() -> Callable[..., Criterion]:
    """The plain loss; keyword arguments change it."""
    return lambda **changes: Criterion(**(PLAIN | changes))


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """A random output, whose maps are leaves, and targets with empty, filled and invalid pixels.

    Two images, three keypoints, strides 4 and 2.
    """

    def build(*, people: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Scene:
        generator = torch.Generator().manual_seed(seed)

        def leaf(size: int) -> torch.Tensor:
            values = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64) / 2
            return values.to(dtype).requires_grad_()

        output, targets = [], []
        for stride, size in ((4, 8), (2, 16)):
            tags = leaf(size) if stride == 4 else None
            output.append(Maps(leaf(size), tags, leaf(size), leaf(size), stride))
            heatmaps = (torch.rand(2, 3, size, size, generator=generator) * 2 - 1).clamp(min=0)
            valid = torch.rand(2, size, size, generator=generator) < 0.8
            targets.append(MapTargets(heatmaps, valid, stride))
        tag_index = torch.randint(-1, 64, (2, people, 3), generator=generator)
        return tuple(output), Targets(tuple(targets), tag_index)

    return build
