"""The generator of stacked encoder-decoders (Chen et al., Adversarial PoseNet, ICCV 2017, section 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from swahr.model import Head, HigherHRNet
from swahr.model.higherhrnet import RgbImages
from swahr.model.hrnet import BasicBlock, conv_unit, initialise
from swahr.structures import Maps, NetworkOutput

_PASSED_ON = ("heatmaps", "occlusion")


class EncoderDecoder(nn.Module):
    """Halves the resolution ``depth`` times and doubles it again, with a skip at each resolution."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.skip = BasicBlock(channels)
        self.encode = conv_unit(channels, channels, 3, stride=2)
        self.inner = EncoderDecoder(channels, depth - 1) if depth > 1 else BasicBlock(channels)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine the feature."""
        coarse = self.inner(self.encode(feature))
        refined: Tensor = self.skip(feature) + F.interpolate(coarse, scale_factor=2, mode="nearest")
        return refined


class ImageStem(nn.Sequential):
    """The feature X of an image at stride 4: a `swahr.model.Backbone` of two strided convolutions."""

    stride = 4

    def __init__(self, channels: int, size_multiple: int) -> None:
        super().__init__(
            conv_unit(3, channels, 3, stride=2),
            conv_unit(channels, channels, 3, stride=2),
            BasicBlock(channels),
        )
        self.channels, self.size_multiple = channels, size_multiple


class StackedGenerator(HigherHRNet):
    """Encoder-decoders in a row, each of which predicts all maps at stride 4.

    The first sees the feature X of the image, each further one X and the heatmaps and occlusion maps of the
    one before it. Other training than `swahr.procedures.AdversarialModule` reads the last one's maps alone.

    Args:
        heads: see `swahr.model.HigherHRNet`.
        stacks: number of encoder-decoders.
        channels: channels of all features.
        depth: how often an encoder halves the resolution.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(
        self, heads: Mapping[str, Callable[[int], Head]], stacks: int = 2, channels: int = 32, depth: int = 3
    ) -> None:
        if min(stacks, channels, depth) < 1:
            raise ValueError(
                "StackedGenerator: expected at least 1 of stacks, channels and depth, got "
                f"{stacks}, {channels} and {depth}"
            )
        stem = ImageStem(channels, ImageStem.stride * 2**depth)
        super().__init__(stem, heads)
        first = self.heads[0]
        assert isinstance(first, nn.ModuleDict)
        built: dict[str, Any] = dict(first.items())  # each a `Head`
        passed = sum(built[name].outputs for name in _PASSED_ON if name in built)
        self.joins = nn.ModuleList(conv_unit(channels + passed, channels, 1) for _ in range(stacks - 1))
        self.stacks = nn.ModuleList(
            nn.Sequential(EncoderDecoder(channels, depth), BasicBlock(channels)) for _ in range(stacks)
        )
        for part in (stem, self.joins, self.stacks):
            part.apply(lambda module: initialise(module, None))
        for _ in range(stacks - 1):
            self.heads.append(deepcopy(first))

    def forward(self, images: RgbImages) -> NetworkOutput:
        """Return the last stack's maps; see `swahr.model.HigherHRNet`."""
        return self.all_stacks(images)[-1]

    def keypoint_rows(self) -> dict[str, list[int]]:
        """Joins have keypoints among their inputs: they start anew for other keypoints."""
        joins: dict[str, list[int]] = {
            f"joins.{name}": [] for name in self.joins.state_dict() if name.endswith("0.weight")
        }
        return super().keypoint_rows() | joins

    def all_stacks(self, images: RgbImages) -> Sequence[NetworkOutput]:
        """Return the maps of every stack, in their order."""
        image = feature = self.backbone(self._prepare(images))
        outputs: list[NetworkOutput] = []
        for number, (stack, heads) in enumerate(zip(self.stacks, self.heads, strict=True)):
            assert isinstance(heads, nn.ModuleDict)
            if number:
                maps = [outputs[-1][0].fields[name] for name in _PASSED_ON if name in heads]
                feature = self.joins[number - 1](torch.cat([image, *maps], dim=1))
            feature = stack(feature)
            outputs.append((Maps(ImageStem.stride, {name: head(feature) for name, head in heads.items()}),))
        return outputs
