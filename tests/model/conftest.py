from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from swahr.model import HigherHRNet

SMALL: dict[str, Any] = {
    "scale_head": True,
    "weight_head": True,
    "stem_channels": 8,
    "layer1_blocks": 1,
    "layer1_channels": 4,
    "channels": [8, 8, 8],
    "modules": [1, 1],
    "blocks": 1,
    "deconv_channels": [8],
    "deconv_blocks": 1,
    "modulation_kernel": 9,
    "initial_std": 0.001,
}


@pytest.fixture
def small_network() -> Callable[..., HigherHRNet]:
    """Builds a network of three keypoints in a few milliseconds; keyword arguments change its shape."""

    def build(**changes: Any) -> HigherHRNet:
        torch.manual_seed(0)
        return HigherHRNet(3, **(SMALL | changes))

    return build


@pytest.fixture
def configured_network(repository: Path) -> Callable[..., HigherHRNet]:
    """Builds the network of a shipped YAML, without memory unless told otherwise."""

    def build(
        name: str, num_keypoints: int = 17, *, scale_head: bool = True, device: str = "meta"
    ) -> HigherHRNet:
        values = yaml.safe_load((repository / "conf" / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert values.pop("_target_") == "swahr.model.HigherHRNet"
        with torch.device(device):
            return HigherHRNet(num_keypoints, scale_head=scale_head, weight_head=False, **values)

    return build


@pytest.fixture
def images() -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)
    return torch.from_numpy(pixels)
