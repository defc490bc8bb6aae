"""A network that is built and runs in milliseconds, for tests of what is done with networks."""

from collections.abc import Sequence
from functools import partial

import torch

from swahr.model import HeatmapHead, HigherHRNet, HRNet, ScaleMapHead, TagHead, WeightMapHead


def small_network(
    num_keypoints: int,
    *,
    heads: Sequence[str],
    channels: Sequence[int] = (8, 8, 8, 8),
) -> HigherHRNet:
    """Random weights, always the same; ``channels`` of the backbone's branches."""
    torch.manual_seed(0)
    known = {
        "heatmaps": partial(HeatmapHead, num_keypoints=num_keypoints),
        "tags": partial(TagHead, num_keypoints=num_keypoints),
        "scale_maps": partial(ScaleMapHead, num_keypoints=num_keypoints, kernel=3),
        "log_weight_maps": partial(WeightMapHead, num_keypoints=num_keypoints, kernel=3),
    }
    backbone = HRNet(
        stem_channels=8, layer1_blocks=1, layer1_channels=4, channels=channels,
        modules=(1,) * (len(channels) - 1), blocks=1, initial_std=None,
    )  # fmt: skip
    return HigherHRNet(backbone, {name: known[name] for name in heads}, deconv_channels=(8,), deconv_blocks=1)
