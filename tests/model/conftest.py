from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from swahr.model import HeatmapHead, HigherHRNet, HRNet, ScaleMapHead, TagHead, WeightMapHead
from swahr.model.published import Layout, published_shapes
from swahr.nodes import instantiate

HEADS = {
    "heatmaps": HeatmapHead,
    "tags": TagHead,
    "scale_maps": ScaleMapHead,
    "log_weight_maps": WeightMapHead,
}
SMALL: dict[str, Any] = {
    "stem_channels": 8,
    "layer1_blocks": 1,
    "layer1_channels": 4,
    "channels": [8, 8, 8],
    "modules": [1, 1],
    "blocks": 1,
    "initial_std": 0.001,
}


@pytest.fixture
def small_network() -> Callable[..., HigherHRNet]:
    """Builds a network of three keypoints in a few milliseconds; arguments change it and its backbone."""

    def build(
        num_keypoints: int = 3,
        *,
        heads: Sequence[str] = tuple(HEADS),
        deconv_channels: Sequence[int] = (8,),
        deconv_blocks: int = 1,
        **backbone: Any,
    ) -> HigherHRNet:
        torch.manual_seed(0)
        return HigherHRNet(
            HRNet(**(SMALL | backbone)),
            heads={name: partial(HEADS[name], num_keypoints=num_keypoints) for name in heads},
            deconv_channels=deconv_channels,
            deconv_blocks=deconv_blocks,
            initial_std=0.001,
        )

    return build


@pytest.fixture
def configured_network(repository: Path) -> Callable[..., HigherHRNet]:
    """Builds the network of a shipped YAML, with the heads of some maps, without memory."""

    def build(name: str, num_keypoints: int = 17, *, heads: Sequence[str] = tuple(HEADS)) -> HigherHRNet:
        with initialize_config_dir(version_base="1.3", config_dir=str(repository / "conf")):
            node = OmegaConf.to_container(compose(overrides=[f"+model={name}"]).model, resolve=True)
        node["heads"] = {head: node["heads"][head] for head in heads}
        with torch.device("meta"):
            network = instantiate(node, num_keypoints=num_keypoints)
        assert isinstance(network, HigherHRNet)
        return network

    return build


@pytest.fixture
def published() -> Callable[[nn.Module, Layout], dict[str, Tensor]]:
    """Random weights for a network, as a file of a family has them."""

    def make(network: nn.Module, layout: Layout) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)
        return {
            name: torch.tensor(7) if not shape else torch.rand(shape, generator=generator)
            for name, shape in published_shapes(network.state_dict(), layout).items()
        }

    return make


@pytest.fixture
def images() -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)
    return torch.from_numpy(pixels)
