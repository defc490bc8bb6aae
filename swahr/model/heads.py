"""Prediction heads: the only place that knows how channels are laid out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class HeatmapsAndTags(NamedTuple):
    """What `HeatmapHead` says; ``tags`` is None where it predicts none."""

    heatmaps: Float[Tensor, "b k h w"]
    tags: Float[Tensor, "b k h w"] | None

    def stacked(self) -> Float[Tensor, "b n h w"]:
        """Heatmaps, then tags, as channels: what a deconvolution block is fed beside the feature."""
        return self.heatmaps if self.tags is None else torch.cat([self.heatmaps, self.tags], dim=1)


class HeatmapHead(nn.Module):
    """A 1x1 convolution to one heatmap and, if asked, one tag map per keypoint.

    Args:
        inputs: channels of the feature.
        num_keypoints: keypoints of the skeleton.
        tags: whether tag maps are predicted (by the coarsest heads only, as in HigherHRNet).
    """

    def __init__(self, inputs: int, num_keypoints: int, *, tags: bool) -> None:
        super().__init__()
        self.tags = tags
        self.conv = nn.Conv2d(inputs, num_keypoints * (2 if tags else 1), 1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> HeatmapsAndTags:
        """Heatmaps and tags at the feature's resolution."""
        if not self.tags:
            return HeatmapsAndTags(self.conv(feature), None)
        return HeatmapsAndTags(*self.conv(feature).chunk(2, dim=1))


class ModulationHead(nn.Module):
    """One map per keypoint that modulates the loss: a scale map (SAHR) or a weight map.

    1x1 convolution, batch norm, ReLU, depth-wise convolution (9x9 as published; Luo et al., Rethinking the
    Heatmap Regression for Bottom-up Human Pose Estimation, CVPR 2021; the official code's form). The last
    convolution starts at zero (`start_neutral`), so that training starts with neither adaptation.

    Args:
        inputs: channels of the feature.
        num_keypoints: keypoints of the skeleton.
        kernel: side of the depth-wise convolution, odd.
    """

    def __init__(self, inputs: int, num_keypoints: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, num_keypoints, 1)
        self.norm = nn.BatchNorm2d(num_keypoints)
        self.smooth = nn.Conv2d(
            num_keypoints,
            num_keypoints,
            kernel,
            padding=kernel // 2,
            groups=num_keypoints,
        )

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """The map at the feature's resolution."""
        rectified = torch.relu(self.norm(self.conv(feature)))
        # Float32 also under autocast: CPUs' bfloat16 depth-wise convolution takes longer.
        with torch.autocast(feature.device.type, enabled=False):
            smoothed: Tensor = self.smooth(rectified.to(self.smooth.weight.dtype))
        return smoothed

    def start_neutral(self) -> None:
        """Make the map zero everywhere, and still able to learn."""
        nn.init.zeros_(self.smooth.weight)
        assert self.smooth.bias is not None
        nn.init.zeros_(self.smooth.bias)


class Heads(nn.Module):
    """All heads of one resolution.

    Args:
        inputs: channels of the feature.
        num_keypoints: keypoints of the skeleton.
        tags: whether tag maps are predicted.
        scale_head: whether scale maps are predicted.
        weight_head: whether weight maps are predicted.
        kernel: side of the scale and weight heads' depth-wise convolutions.
    """

    def __init__(
        self,
        inputs: int,
        num_keypoints: int,
        *,
        tags: bool,
        scale_head: bool,
        weight_head: bool,
        kernel: int,
    ) -> None:
        super().__init__()
        self.heatmap = HeatmapHead(inputs, num_keypoints, tags=tags)
        self.scale_map = ModulationHead(inputs, num_keypoints, kernel) if scale_head else None
        self.weight_map = ModulationHead(inputs, num_keypoints, kernel) if weight_head else None
