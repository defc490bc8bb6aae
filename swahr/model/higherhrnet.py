"""HigherHRNet with SWAHR's heads: heatmaps at two resolutions, tags, scale maps, weight maps.

Cheng et al., HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation, CVPR 2020,
section 3; Luo et al., Rethinking the Heatmap Regression for Bottom-up Human Pose Estimation, CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from swahr.model.heads import Heads, HeatmapsAndTags, ModulationHead
from swahr.model.hrnet import STEM_STRIDE, BasicBlock, HRNet
from swahr.model.recompute import Recomputable
from swahr.structures import Maps, NetworkOutput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_HEAD_STD = 0.001


class Deconvolution(Recomputable):
    """Doubles the resolution: 4x4 transposed convolution, then residual blocks.

    Args:
        inputs: channels of the feature and of the predictions it is fed with.
        channels: channels of the result.
        blocks: residual blocks after the transposed convolution.
    """

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(BasicBlock(channels) for _ in range(blocks)))

    def compute(
        self, feature: Float[Tensor, "b c h w"], predictions: HeatmapsAndTags
    ) -> Float[Tensor, "b d h2 w2"]:
        """A feature of twice the resolution; scale and weight maps are not fed in."""
        refined: Tensor = self.blocks(self.upsample(torch.cat([feature, predictions.stacked()], dim=1)))
        return refined


class HigherHRNet(nn.Module):
    """Bottom-up pose network: HRNet at stride 4, and one more resolution per deconvolution.

    Args:
        num_keypoints: keypoints of the skeleton (a fact of the skeleton, not a setting).
        scale_head: whether scale maps are predicted (a fact of the loss).
        weight_head: whether weight maps are predicted (a fact of the loss).
        stem_channels: channels of the two strided 3x3 convolutions that open the network.
        layer1_blocks: Bottleneck blocks after the stem.
        layer1_channels: inner channels of those blocks; they give four times as many.
        channels: channels of each HRNet branch, fine to coarse.
        modules: HRNet modules per stage, one entry fewer than ``channels``.
        blocks: residual blocks per branch and module.
        deconv_channels: channels of each deconvolution, coarse to fine; empty for a plain HRNet.
        deconv_blocks: residual blocks per deconvolution.
        modulation_kernel: side of the scale and weight heads' depth-wise convolutions (published: 9).
        initial_std: deviation of the convolutions' initial weights (published: 0.001, meant to be overwritten
            by ImageNet weights); None: by fan-in (He et al., 2015), for training from scratch.

    Attributes:
        strides: input pixels per map pixel, coarse to fine: (4, 2) with one deconvolution.
        size_multiple: heights and widths of images must be multiples of it (32 with four branches).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_keypoints: int,
        *,
        scale_head: bool,
        weight_head: bool,
        stem_channels: int,
        layer1_blocks: int,
        layer1_channels: int,
        channels: Sequence[int],
        modules: Sequence[int],
        blocks: int,
        deconv_channels: Sequence[int],
        deconv_blocks: int,
        modulation_kernel: int,
        initial_std: float | None,
    ) -> None:
        super().__init__()
        self.strides = tuple(STEM_STRIDE // 2**level for level in range(len(deconv_channels) + 1))
        if self.strides[-1] < 1:
            raise ValueError(f"expected at most two deconvolutions (stride 1), got {list(deconv_channels)}")
        self.backbone = HRNet(
            stem_channels=stem_channels,
            layer1_blocks=layer1_blocks,
            layer1_channels=layer1_channels,
            channels=channels,
            modules=modules,
            blocks=blocks,
        )
        self.size_multiple = self.backbone.size_multiple
        widths = [channels[0], *deconv_channels]
        heads = partial(Heads, scale_head=scale_head, weight_head=weight_head, kernel=modulation_kernel)
        self.heads = nn.ModuleList(
            heads(width, num_keypoints, tags=level == 0) for level, width in enumerate(widths)
        )
        # The first deconvolution is fed with heatmaps and tags, later ones with heatmaps.
        fed = [num_keypoints * (2 if level == 0 else 1) for level in range(len(deconv_channels))]
        self.deconvolutions = nn.ModuleList(
            Deconvolution(width + extra, outputs, deconv_blocks)
            for width, extra, outputs in zip(widths, fed, deconv_channels, strict=False)
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.apply(partial(_initialise, std=initial_std))

    def forward(self, images: UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"]) -> NetworkOutput:
        """Predict maps of RGB images (frame: input).

        Args:
            images: uint8, normalised here with ImageNet's mean and deviation; or float, taken as normalised.

        Returns:
            One `Maps` per stride, coarse to fine; tags in the first, scale and weight maps if switched on.

        Raises:
            ValueError: the height or width is not a multiple of ``size_multiple``.
        """
        feature = self.backbone(self._prepare(images))
        output: list[Maps] = []
        predictions: HeatmapsAndTags | None = None
        for level, (heads, stride) in enumerate(zip(self.heads, self.strides, strict=True)):
            if predictions is not None:
                feature = self.deconvolutions[level - 1](feature, predictions)
            assert isinstance(heads, Heads)
            predictions = heads.heatmap(feature)
            output.append(
                Maps(
                    heatmaps=predictions.heatmaps,
                    tags=predictions.tags,
                    scales=None if heads.scale_map is None else heads.scale_map(feature),
                    weights=None if heads.weight_map is None else heads.weight_map(feature),
                    stride=stride,
                )
            )
        return tuple(output)

    def _prepare(
        self, images: UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"]
    ) -> Float[Tensor, "b 3 H W"]:
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"expected images whose height and width are multiples of {self.size_multiple}, got "
                f"{height} x {width}; resize or pad them (the data and aggregate stages have settings for it)"
            )
        if images.dtype != torch.uint8:
            return images
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std


def _initialise(module: nn.Module, *, std: float | None) -> None:
    """Normal convolutions, zero biases, batch norm 1 and 0, neutral modulation."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        if module.bias is not None:  # the heads' own convolutions, which no batch norm follows
            nn.init.normal_(module.weight, std=_HEAD_STD)
            nn.init.zeros_(module.bias)
        elif std is not None:
            nn.init.normal_(module.weight, std=std)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    # `apply` visits children first, so this has the last word on the head's convolutions.
    if isinstance(module, ModulationHead):
        module.start_neutral()
