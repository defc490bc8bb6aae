"""HigherHRNet: a backbone and deconvolutions, with prediction heads at several resolutions.

Cheng et al., HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation, CVPR 2020,
section 3; Luo et al., Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation, CVPR 2021.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from swahr.execution import Recomputable
from swahr.model.heads import Head
from swahr.model.hrnet import BasicBlock, initialise
from swahr.structures import Maps, NetworkOutput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RgbImages = UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"]


@runtime_checkable
class Backbone(Protocol):
    """An `nn.Module` from normalised RGB images (b 3 H W) to one feature (b channels H/stride W/stride)."""

    channels: int  # channels of the feature
    stride: int  # input pixels per feature pixel
    size_multiple: int  # image heights and widths must be multiples of it


class Deconvolution(Recomputable):
    """Doubles the resolution: 4x4 transposed convolution to ``channels``, then ``blocks`` residual blocks."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(BasicBlock(channels) for _ in range(blocks)))

    def compute(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return a feature of twice the resolution; the input is a feature with maps concatenated."""
        refined: Tensor = self.blocks(self.upsample(feature))
        return refined


class HigherHRNet(nn.Module):
    """Bottom-up pose network: heads on a backbone's feature and on each deconvolution of it.

    The input of a deconvolution is the feature, then in alphabetical order the maps of the same resolution
    whose head has ``feeds_deconvolution``: heatmaps and tags, as in the official code.

    Args:
        backbone: `swahr.model.HRNet`, or another module that is a `Backbone`.
        heads: for each map by name a callable that builds its `Head` from the feature's channels.
        deconv_channels: channels of each deconvolution, coarse to fine; empty for a plain HRNet.
        deconv_blocks: residual blocks per deconvolution.
        initial_std: standard deviation of the deconvolutions' initial weights; see `swahr.model.HRNet`.

    Attributes:
        strides: input pixels per map pixel, coarse to fine: (4, 2) with one deconvolution.
        size_multiple: image heights and widths must be multiples of it (32 with HRNet's four branches).

    Raises:
        ValueError: too many deconvolutions, no head named ``heatmaps``, or a head whose name differs from its
            map's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, Callable[[int], Head]],
        deconv_channels: Sequence[int] = (),
        deconv_blocks: int = 4,
        initial_std: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(backbone, Backbone):
            raise TypeError(
                "expected a backbone with channels, stride and size_multiple (swahr.model.Backbone), got "
                f"{type(backbone).__name__}"
            )
        self.strides = tuple(backbone.stride // 2**level for level in range(len(deconv_channels) + 1))
        if self.strides[-1] < 1:
            raise ValueError(
                "expected deconvolutions that halve the backbone's stride down to stride 1 at most, got "
                f"deconv_channels {list(deconv_channels)} for stride {backbone.stride}; remove some"
            )
        self.backbone = backbone
        self.size_multiple = backbone.size_multiple
        self.heads, self.deconvolutions = nn.ModuleList(), nn.ModuleList()
        inputs = backbone.channels
        for level, width in enumerate([inputs, *deconv_channels]):
            if level:
                deconvolution = Deconvolution(inputs, width, deconv_blocks)
                deconvolution.apply(lambda module: initialise(module, initial_std))
                self.deconvolutions.append(deconvolution)
            built = _build_heads(heads, width)
            self.heads.append(nn.ModuleDict(built))
            # The next level: a deconvolution's input channels, and the heads it has.
            inputs = width + sum(head.outputs for head in built.values() if head.feeds_deconvolution)
            heads = {name: build for name, build in heads.items() if not built[name].coarsest_only}
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: RgbImages) -> NetworkOutput:
        """Return one `Maps` per stride, coarse to fine, with a field per head. Frame: input.

        Args:
            images: uint8 images, normalised here with ImageNet's mean and deviation; or float images that are
                normalised already.

        Raises:
            ValueError: the height or width is not a multiple of ``size_multiple``.
        """
        feature = self.backbone(self._prepare(images))
        output: list[Maps] = []
        fed: list[Tensor] = []
        for level, (heads, stride) in enumerate(zip(self.heads, self.strides, strict=True)):
            assert isinstance(heads, nn.ModuleDict)
            if level:
                feature = self.deconvolutions[level - 1](torch.cat([feature, *fed], dim=1))
            fields = {name: head(feature) for name, head in heads.items()}
            fed = [fields[name] for name in sorted(heads) if heads[name].feeds_deconvolution]
            output.append(Maps(stride, fields))
        return tuple(output)

    def keypoint_rows(self) -> dict[str, list[int]]:
        """See `swahr.runs.initial_weights.KeypointNetwork`: rows of heads, and inputs of deconvolutions."""
        rows: dict[str, list[int]] = {}
        for level, module in enumerate(self.heads):
            heads: Any = module  # a `ModuleDict` of `Head`
            count = heads["heatmaps"].outputs
            for name, head in heads.items():
                own = head.keypoint_rows() if head.outputs == count else {}
                rows |= {f"heads.{level}.{name}.{key}": starts for key, starts in own.items()}
            if level < len(self.deconvolutions):
                key = f"deconvolutions.{level}.upsample.0.weight"
                fed = [heads[name].outputs for name in sorted(heads) if heads[name].feeds_deconvolution]
                first = len(self.get_parameter(key)) - sum(fed)
                starts = accumulate([first, *fed])
                rows[key] = [start for start, outputs in zip(starts, fed, strict=False) if outputs == count]
        return rows

    def _prepare(self, images: RgbImages) -> Float[Tensor, "b 3 H W"]:
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"expected images whose height and width are multiples of {self.size_multiple}, got "
                f"{height} x {width}; resize or pad them (see input_size in data and aggregate)"
            )
        if images.dtype != torch.uint8:
            return images
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std


def _build_heads(heads: Mapping[str, Callable[[int], Head]], inputs: int) -> dict[str, Head]:
    """Build and initialise the heads of one resolution."""
    if "heatmaps" not in heads:
        raise ValueError(f"expected a head named 'heatmaps' in model.heads, got {list(heads)}; add it")
    built: dict[str, Head] = {}
    for name, build in heads.items():
        built[name] = head = build(inputs)
        if (own := head.kind.name) != name:
            kind = type(head).__name__
            raise ValueError(f"model.heads.{name} is a {kind}, which predicts '{own}'; name it '{own}'")
        head.initialise()
    return built
