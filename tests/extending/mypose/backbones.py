# mypose/backbones.py
"""A residual network with a feature pyramid, in place of HRNet."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from swahr.model.hrnet import BasicBlock


class ResNetFpn(nn.Module):
    """Residual stages at strides 4, 8, … merged to one feature map at stride 4 (Lin et al., FPN, CVPR 2017).

    Args:
        channels: number of channels of the feature map.
        widths: number of channels of each stage, fine to coarse.
        blocks: residual blocks per stage.
    """

    stride = 4

    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.channels = channels
        self.size_multiple = 2 * 2 ** len(widths)
        self.stem, self.stages, self.laterals = _halve(3, widths[0]), nn.ModuleList(), nn.ModuleList()
        for inputs, width in zip([widths[0], *widths], widths, strict=False):
            residual = (BasicBlock(width) for _ in range(blocks))
            self.stages.append(nn.Sequential(_halve(inputs, width), *residual))
            self.laterals.append(nn.Conv2d(width, channels, 1))

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Return the feature map at stride 4."""
        feature, features = self.stem(images), []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            feature = stage(feature)
            features.append(lateral(feature))
        merged = features.pop()
        while features:
            merged = features.pop() + F.interpolate(merged, scale_factor=2.0)
        return F.relu(merged)


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
