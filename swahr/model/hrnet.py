"""HRNet: a backbone that keeps a high-resolution branch from the first stage to the last.

Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, TPAMI 2020, section 3.
"""

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from swahr.execution import Recomputable

STEM_STRIDE = 4
_BOTTLENECK_EXPANSION = 4


def conv_unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Return a convolution ("same" padding, no bias), batch norm and, with ``relu``, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: ``(b c h w)`` to ``(b c h w)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unit1 = conv_unit(channels, channels, 3)
        self.unit2 = conv_unit(channels, channels, 3, relu=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine the feature."""
        return F.relu(self.unit2(self.unit1(x)) + x, inplace=True)


class Bottleneck(Recomputable):
    """1x1, 3x3 and 1x1 convolutions with a shortcut: ``(b c h w)`` to ``(b 4 * channels h w)``."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        outputs = _BOTTLENECK_EXPANSION * channels
        self.unit1 = conv_unit(inputs, channels, 1)
        self.unit2 = conv_unit(channels, channels, 3)
        self.unit3 = conv_unit(channels, outputs, 1, relu=False)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else conv_unit(inputs, outputs, 1, relu=False)

    def compute(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Refine the feature."""
        return F.relu(self.unit3(self.unit2(self.unit1(x))) + self.shortcut(x), inplace=True)


class Fusion(nn.Module):
    """Exchange between branches: each of ``num_outputs`` outputs is the sum of all branches, resampled.

    Coarser branches pass a 1x1 convolution and nearest-neighbour upsampling, finer ones strided 3x3
    convolutions. ``channels`` are those of each branch, fine to coarse, with half the resolution each.
    """

    def __init__(self, channels: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(channels, source, target) for source in range(len(channels)))
            for target in range(num_outputs)
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Return ``num_outputs`` features, fine to coarse."""
        fused = []
        for paths in self.paths:
            assert isinstance(paths, nn.ModuleList)
            first, *rest = (path(branch) for path, branch in zip(paths, branches, strict=True))
            fused.append(F.relu(sum(rest, start=first)))
        return fused


def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """Return the layers that resample branch ``source`` to branch ``target`` of a fusion."""
    if source == target:
        return nn.Identity()
    if source > target:
        upsample = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_unit(channels[source], channels[target], 1, relu=False), upsample)
    steps = target - source
    widths = [channels[source]] * steps + [channels[target]]
    pairs = enumerate(itertools.pairwise(widths), start=1)
    return nn.Sequential(*(conv_unit(a, b, 3, stride=2, relu=step < steps) for step, (a, b) in pairs))


class HighResolutionModule(Recomputable):
    """Residual blocks (``blocks`` per branch) in parallel, then a `Fusion` with the other parameters."""

    def __init__(self, channels: Sequence[int], blocks: int, num_outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in channels
        )
        self.fusion = Fusion(channels, num_outputs)

    def compute(self, features: list[Tensor]) -> list[Tensor]:
        """Refine and mix the features; input and output are fine to coarse."""
        refined = [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        fused: list[Tensor] = self.fusion(refined)
        return fused


class Transition(nn.Module):
    """Maps features to the next stage's channels and adds a branch of half the coarsest resolution."""

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        self.kept = nn.ModuleList(
            nn.Identity() if a == b else conv_unit(a, b, 3) for a, b in zip(inputs, outputs, strict=False)
        )
        self.opened = conv_unit(inputs[-1], outputs[-1], 3, stride=2)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return one feature more than the input has, fine to coarse."""
        kept = [unit(feature) for unit, feature in zip(self.kept, features, strict=True)]
        return [*kept, self.opened(features[-1])]


def initialise(module: nn.Module, std: float | None) -> None:
    """Initialise a convolution from N(0, std^2), or by fan-in (He et al., 2015) where ``std`` is None."""
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return
    if std is not None:
        nn.init.normal_(module.weight, std=std)
    else:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


class HRNet(nn.Module):
    """The HRNet `Backbone`: the finest branch of its last stage, at stride 4.

    Args:
        stem_channels: channels of the stem's two strided 3x3 convolutions.
        layer1_blocks: `Bottleneck` blocks after the stem.
        layer1_channels: inner channels of those blocks; their outputs have four times as many.
        channels: channels of each branch, fine to coarse. Stage s has the first s + 1 branches.
        modules: high-resolution modules per stage, one entry fewer than ``channels``.
        blocks: residual blocks per branch and module.
        initial_std: standard deviation of the convolutions' initial weights (published: 0.001, for networks
            that then load ImageNet weights); None initialises by fan-in (He et al., 2015).

    Raises:
        ValueError: ``channels`` and ``modules`` do not match, or a count is not positive.
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
        initial_std: float | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != len(modules) + 1 or not modules:
            raise ValueError(
                "expected one entry of 'modules' per stage and one more of 'channels' (each stage adds a "
                f"branch), got channels {list(channels)} and modules {list(modules)}; add or remove entries"
            )
        if min(stem_channels, layer1_blocks, layer1_channels, blocks, *channels, *modules) < 1:
            raise ValueError("expected positive channels, blocks and modules; check the model's settings")
        # Stem and layer 1: a feature of stride 4 with widths[-1] channels.
        self.stem = nn.Sequential(
            conv_unit(3, stem_channels, 3, stride=2), conv_unit(stem_channels, stem_channels, 3, stride=2)
        )
        widths = [stem_channels] + [_BOTTLENECK_EXPANSION * layer1_channels] * layer1_blocks
        self.layer1 = nn.Sequential(*(Bottleneck(width, layer1_channels) for width in widths[:-1]))
        # Each stage starts with a transition that adds a branch.
        self.transitions, self.stages = nn.ModuleList(), nn.ModuleList()
        inputs: Sequence[int] = widths[-1:]
        for stage, count in enumerate(modules, start=1):
            outputs = channels[: stage + 1]
            last = 1 if stage == len(modules) else len(outputs)
            fused = [len(outputs)] * (count - 1) + [last]  # outputs of each module
            self.transitions.append(Transition(inputs, outputs))
            self.stages.append(nn.Sequential(*(HighResolutionModule(outputs, blocks, n) for n in fused)))
            inputs = outputs
        self.channels = channels[0]
        self.stride = STEM_STRIDE
        self.size_multiple = STEM_STRIDE * 2 ** (len(channels) - 1)
        self.apply(lambda module: initialise(module, initial_std))

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Return the finest feature: c = ``channels[0]``, stride 4. ``size_multiple`` must divide H and W."""
        features = [self.layer1(self.stem(images))]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            features = stage(transition(features))
        finest: Tensor = features[0]
        return finest
