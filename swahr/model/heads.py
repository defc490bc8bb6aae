"""Prediction heads: a head predicts one named map at every resolution of a network."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swahr.map_kinds import HEATMAPS, LOG_WEIGHT_MAPS, SCALE_MAPS, TAGS, MapKind

_INITIAL_STD = 0.001


class Head(nn.Module, ABC):
    """Predicts one map from the feature of one resolution. Networks build a head per resolution."""

    kind: ClassVar[MapKind]  # the map's name, and how it is mirrored, merged and painted
    coarsest_only: ClassVar[bool] = False  # whether only the coarsest resolution has this head
    feeds_deconvolution: ClassVar[bool] = False  # whether the next deconvolution has the map as an input
    outputs: int  # channels of the map

    @abstractmethod
    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        """Return the map at the feature's resolution."""

    def initialise(self) -> None:
        """Draw the convolutions' weights from N(0, 0.001^2) and set biases to zero (HigherHRNet)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_INITIAL_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def keypoint_rows(self) -> dict[str, list[int]]:
        """The rows of keypoints in this head's tensors (`swahr.runs.initial_weights.KeypointNetwork`)."""
        return {name: [0] for name, value in self.state_dict().items() if value.shape[:1] == (self.outputs,)}


class HeatmapHead(Head):
    """A 1x1 convolution from ``inputs`` channels to one heatmap per keypoint."""

    kind = HEATMAPS
    feeds_deconvolution = True

    def __init__(self, inputs: int, num_keypoints: int) -> None:
        super().__init__()
        self.outputs = num_keypoints
        self.conv = nn.Conv2d(inputs, num_keypoints, 1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        maps: Tensor = self.conv(feature)
        return maps


class TagHead(HeatmapHead):
    """A 1x1 convolution to one tag map per keypoint, at the coarsest resolution only (HigherHRNet)."""

    kind = TAGS
    coarsest_only = True


class ModulationHead(Head):
    """One map per keypoint that modulates the loss, as in the official code of Luo et al. (CVPR 2021).

    1x1 convolution, batch norm, ReLU, depth-wise convolution of odd side ``kernel`` (published: 9). The last
    one starts at zero, so that training starts without modulation.
    """

    def __init__(self, inputs: int, num_keypoints: int, kernel: int = 9) -> None:
        super().__init__()
        self.outputs = outputs = num_keypoints
        self.conv = nn.Conv2d(inputs, outputs, 1)
        self.norm = nn.BatchNorm2d(outputs)
        self.smooth = nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2, groups=outputs)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        rectified = torch.relu(self.norm(self.conv(feature)))
        # Float32 also under autocast: depth-wise convolutions in bfloat16 are slower on CPUs.
        with torch.autocast(feature.device.type, enabled=False):
            smoothed: Tensor = self.smooth(rectified.to(self.smooth.weight.dtype))
        return smoothed

    def initialise(self) -> None:
        """Initialise as every head, and the last convolution's weight to zero."""
        super().initialise()
        nn.init.zeros_(self.smooth.weight)


class ScaleMapHead(ModulationHead):
    """SAHR's scale maps: alpha = 1 / s^2 - 1 for a keypoint whose Gaussian has the width sigma * s."""

    kind = SCALE_MAPS


class WeightMapHead(ModulationHead):
    """Learned loss weights w, as their logarithm v = log w."""

    kind = LOG_WEIGHT_MAPS
