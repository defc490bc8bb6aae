"""EfficientNet-Lite0 as a backbone: a light classifier whose features are merged top-down to stride 4.

Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019; Lite variants
have neither squeeze-and-excitation nor swish. Merging: Lin et al., Feature Pyramid Networks, CVPR 2017.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swahr.execution import Recomputable
from swahr.model.higherhrnet import IMAGENET_MEAN, IMAGENET_STD
from swahr.model.hrnet import conv_unit, initialise

# Each stage of blocks: expansion, kernel, stride of the first block, channels, number of blocks.
_STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
_STEM_CHANNELS = 32
_MERGED = {2: 24, 4: 40, 10: 112, 15: 320}  # channels of the last blocks of strides 4, 8, 16 and 32
_EPS, _MOMENTUM = 1e-3, 0.01  # of batch norm, as in the published weights


class Unit(nn.Sequential):
    """A convolution without bias, padded as in TensorFlow, batch norm and, with ``relu6``, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu6: bool = True
    ) -> None:
        # TensorFlow pads strided convolutions of images of even size less on the left and at the top.
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        same = before == after
        super().__init__(
            nn.Identity() if same else nn.ZeroPad2d((before, after, before, after)),
            nn.Conv2d(inputs, outputs, kernel, stride, before if same else 0, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, _EPS, _MOMENTUM),
            nn.ReLU6(inplace=True) if relu6 else nn.Identity(),
        )


class InvertedResidual(Recomputable):
    """1x1 expansion, depth-wise convolution and 1x1 projection, with a shortcut where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = Unit(inputs, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Unit(width, width, kernel, stride=stride, groups=width)
        self.project = Unit(width, outputs, 1, relu6=False)
        self.has_shortcut = stride == 1 and inputs == outputs

    def compute(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Refine the feature."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier: a `swahr.model.Backbone` of stride 4.

    The features of strides 4 to 32 pass a 1x1 convolution each. From the coarsest on, they are enlarged,
    added to the next finer one and smoothed by a 3x3 convolution.

    Args:
        channels: channels of the merged features.
    """

    stride = 4
    size_multiple = 32
    factor: Tensor
    shift: Tensor

    def __init__(self, *, channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        self.entry = Unit(3, _STEM_CHANNELS, 3, stride=2)
        self.blocks, inputs = nn.ModuleList(), _STEM_CHANNELS
        for expansion, kernel, first_stride, outputs, count in _STAGES:
            for stride in [first_stride] + [1] * (count - 1):
                block = InvertedResidual(inputs, outputs, expansion=expansion, kernel=kernel, stride=stride)
                self.blocks.append(block)
                inputs = outputs
        self.laterals = nn.ModuleList(conv_unit(c, channels, 1, relu=False) for c in _MERGED.values())
        self.smoothing = nn.ModuleList(conv_unit(channels, channels, 3) for _ in range(len(_MERGED) - 1))
        self.apply(lambda module: initialise(module, None))
        # The published weights expect (value - 127) / 128; images arrive normalised by ImageNet's statistics.
        mean, std = torch.tensor([IMAGENET_MEAN, IMAGENET_STD]).view(2, 1, 3, 1, 1)
        self.register_buffer("factor", 255 * std / 128, persistent=False)
        self.register_buffer("shift", (255 * mean - 127) / 128, persistent=False)

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Return the merged feature at stride 4. ``size_multiple`` must divide H and W."""
        feature = self.entry(images * self.factor + self.shift)
        features = []
        for i, block in enumerate(self.blocks):
            feature = block(feature)
            if i in _MERGED:
                features.append(feature)
        return self._merged(features)

    def _merged(self, features: Sequence[Tensor]) -> Tensor:
        """Merge features that are ordered fine to coarse."""
        merged: Tensor
        *finer, merged = (lateral(f) for lateral, f in zip(self.laterals, features, strict=True))
        for smooth, feature in zip(self.smoothing, reversed(finer), strict=True):
            merged = smooth(feature + F.interpolate(merged, scale_factor=2, mode="nearest"))
        return merged
