"""HRNet: a backbone that keeps a high-resolution branch from the first stage to the last.

Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, TPAMI 2020, section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swahr.model.recompute import Recomputable

STEM_STRIDE = 4
_BOTTLENECK_EXPANSION = 4


def conv_unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution ("same" padding, no bias), batch norm and, unless told otherwise, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; as many channels out as in. ``(b c h w)`` -> ``(b c h w)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unit1 = conv_unit(channels, channels, 3)
        self.unit2 = conv_unit(channels, channels, 3, relu=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine the feature."""
        return F.relu(self.unit2(self.unit1(x)) + x, inplace=True)


class Bottleneck(Recomputable):
    """1x1, 3x3, 1x1 convolutions with a shortcut. ``(b c h w)`` -> ``(b 4 * channels h w)``."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        outputs = _BOTTLENECK_EXPANSION * channels
        self.unit1 = conv_unit(inputs, channels, 1)
        self.unit2 = conv_unit(channels, channels, 3)
        self.unit3 = conv_unit(channels, outputs, 1, relu=False)
        widens = inputs != outputs
        self.shortcut = conv_unit(inputs, outputs, 1, relu=False) if widens else nn.Identity()

    def compute(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Refine the feature."""
        return F.relu(self.unit3(self.unit2(self.unit1(x))) + self.shortcut(x), inplace=True)


class Fusion(nn.Module):
    """Exchange between branches: every output is the sum of all branches, resampled to its resolution.

    A coarser branch comes through a 1x1 convolution and nearest-neighbour upsampling, a finer one through
    strided 3x3 convolutions.

    Args:
        channels: channels of each branch, fine to coarse (each half the resolution of the one before).
        num_outputs: how many resolutions, from the finest, are made.
    """

    def __init__(self, channels: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(channels, source, target) for source in range(len(channels)))
            for target in range(num_outputs)
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Mix the branches; returns ``num_outputs`` features, fine to coarse."""
        return [self._fuse(branches, paths) for paths in self.paths]

    def _fuse(self, branches: list[Tensor], paths: nn.Module) -> Tensor:
        assert isinstance(paths, nn.ModuleList)
        first, *rest = (path(branch) for path, branch in zip(paths, branches, strict=True))
        return F.relu(sum(rest, start=first))


def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From branch ``source`` to branch ``target`` of a fusion."""
    if source == target:
        return nn.Identity()
    if source > target:
        upsample = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_unit(channels[source], channels[target], 1, relu=False), upsample)
    steps = target - source
    widths = [channels[source]] * steps + [channels[target]]
    return nn.Sequential(
        *(
            conv_unit(inputs, outputs, 3, stride=2, relu=step < steps)
            for step, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1)
        )
    )


class HighResolutionModule(Recomputable):
    """Residual blocks on each branch in parallel, then a fusion.

    Args:
        channels: channels of each branch, fine to coarse.
        blocks: residual blocks per branch.
        num_outputs: how many resolutions, from the finest, the fusion makes.
    """

    def __init__(self, channels: Sequence[int], blocks: int, num_outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in channels
        )
        self.fusion = Fusion(channels, num_outputs)

    def compute(self, features: list[Tensor]) -> list[Tensor]:
        """Refine and mix; fine to coarse in and out."""
        refined = [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        fused: list[Tensor] = self.fusion(refined)
        return fused


class Transition(nn.Module):
    """Fits the features to the next stage's widths and opens one branch of half the coarsest resolution."""

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        self.kept = nn.ModuleList(
            nn.Identity() if a == b else conv_unit(a, b, 3) for a, b in zip(inputs, outputs, strict=False)
        )
        self.opened = conv_unit(inputs[-1], outputs[-1], 3, stride=2)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """One feature more than came in; fine to coarse."""
        kept = [unit(feature) for unit, feature in zip(self.kept, features, strict=True)]
        return [*kept, self.opened(features[-1])]


class HRNet(nn.Module):
    """The HRNet backbone; of its last stage only the finest branch is made, at stride 4.

    Args:
        stem_channels: channels of the two strided 3x3 convolutions that open the network.
        layer1_blocks: Bottleneck blocks after the stem.
        layer1_channels: inner channels of those blocks; they give four times as many.
        channels: channels of each branch, fine to coarse. Stage s has the first s + 1 of them.
        modules: high-resolution modules per stage, one entry fewer than ``channels``.
        blocks: residual blocks per branch and module.

    Raises:
        ValueError: ``channels`` and ``modules`` do not fit each other, or a count is not positive.
    """

    def __init__(
        self,
        *,
        stem_channels: int,
        layer1_blocks: int,
        layer1_channels: int,
        channels: Sequence[int],
        modules: Sequence[int],
        blocks: int,
    ) -> None:
        super().__init__()
        if len(channels) != len(modules) + 1 or not modules:
            raise ValueError(
                f"expected one entry of 'modules' per stage and one of 'channels' more (each stage opens a "
                f"branch), got channels {list(channels)} and modules {list(modules)}"
            )
        if min(stem_channels, layer1_blocks, layer1_channels, blocks, *channels, *modules) < 1:
            raise ValueError("expected positive channels, blocks and modules; check the model's settings")
        self.stem = nn.Sequential(
            conv_unit(3, stem_channels, 3, stride=2), conv_unit(stem_channels, stem_channels, 3, stride=2)
        )
        widths = [stem_channels] + [_BOTTLENECK_EXPANSION * layer1_channels] * layer1_blocks
        self.layer1 = nn.Sequential(*(Bottleneck(width, layer1_channels) for width in widths[:-1]))
        self.transitions = nn.ModuleList()
        self.stages = nn.ModuleList()
        inputs: Sequence[int] = widths[-1:]
        for stage, count in enumerate(modules, start=1):
            outputs = channels[: stage + 1]
            is_last = stage == len(modules)
            self.transitions.append(Transition(inputs, outputs))
            self.stages.append(_stage(outputs, count, blocks, 1 if is_last else len(outputs)))
            inputs = outputs
        self.size_multiple = STEM_STRIDE * 2 ** (len(channels) - 1)

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """The finest feature, ``channels[0]`` wide, at stride 4; H and W multiples of ``size_multiple``."""
        features = [self.layer1(self.stem(images))]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            features = stage(transition(features))
        finest: Tensor = features[0]
        return finest


def _stage(channels: Sequence[int], modules: int, blocks: int, num_outputs: int) -> nn.Sequential:
    outputs = [len(channels)] * (modules - 1) + [num_outputs]
    return nn.Sequential(*(HighResolutionModule(channels, blocks, count) for count in outputs))
