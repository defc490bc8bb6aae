"""Run a network on images and merge what it says at several strides, test scales and in the mirror.

The test-time scheme of HigherHRNet (Cheng et al., CVPR 2020, section 3.3 "Heatmap aggregation") and SWAHR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from swahr.aggregate.frames import DEEPEST_STRIDE, Size, frame_sizes, output_frame
from swahr.aggregate.inputs import REFERENCE, Images, Inputs, warp_inputs
from swahr.geometry import Affine, Alignment
from swahr.structures import DenseMaps, NetworkOutput

Network = Callable[[Tensor], NetworkOutput]


@dataclass(frozen=True, eq=False)
class _Merged:
    """Strides merged at the finest one. ``tags`` holds one map per mirror image."""

    heatmaps: Float32[Tensor, "b k h w"]
    tags: tuple[Float32[Tensor, "b k h w"], ...]
    scales: Float32[Tensor, "b k h w"] | None

    def resized(self, size: Size) -> _Merged:
        """The same maps at another size."""
        return _Merged(
            heatmaps=_resize(self.heatmaps, size),
            tags=tuple(_resize(tags, size) for tags in self.tags),
            scales=None if self.scales is None else _resize(self.scales, size),
        )


class Aggregator:
    """From images to `DenseMaps`.

    Every image is warped into the input frame; heatmaps of all strides are brought to the finest and
    averaged, so are those of the mirrored input and of every test scale; tags come from test scale 1 only,
    one tag dimension per mirror image. Scale maps are those of the finest stride and of test scale 1.

    Args:
        flip_permutation: for each keypoint the index of its mirror image.
        input_size: short side of the input at test scale 1, in pixels.
        test_scales: factors of ``input_size``; 1 must be among them.
        flip: also look at the mirrored input.
        project: bring the maps to the size of the input; otherwise they keep the network's finest stride.
        alignment: how the image lies in the input and the maps on it: ``centre``, or ``official`` for
            published weights (see `swahr.aggregate.frames`).
        size_multiple: sides of the smallest input are rounded up to a multiple of this, itself one of 32.

    Raises:
        ValueError: a size is not positive, ``size_multiple`` is not a multiple of 32, 1 is not among the test
            scales, or the alignment is unknown.
    """

    def __init__(
        self,
        flip_permutation: Sequence[int],
        input_size: int = 512,
        test_scales: Sequence[float] = (1.0,),
        flip: bool = True,
        project: bool = False,
        alignment: Alignment = "centre",
        size_multiple: int = 64,
    ) -> None:
        if input_size < 1 or min(test_scales, default=0) <= 0:
            raise ValueError(
                f"expected a positive input_size and positive test_scales, got {input_size} and "
                f"{list(test_scales)}"
            )
        if REFERENCE not in test_scales:
            raise ValueError(
                f"expected 1.0 among test_scales, because tags are read there, got {list(test_scales)}; "
                "change input_size to work at another size"
            )
        if size_multiple < 1 or size_multiple % DEEPEST_STRIDE:
            raise ValueError(f"expected size_multiple to be a multiple of 32, got {size_multiple}")
        if alignment not in ("centre", "official"):
            raise ValueError(f"expected alignment 'centre' or 'official', got {alignment!r}")
        self.flip_permutation = list(flip_permutation)
        self.input_size = input_size
        self.test_scales = tuple(dict.fromkeys(float(test_scale) for test_scale in test_scales))
        self.flip = flip
        self.project = project
        self.alignment: Alignment = alignment
        self.size_multiple = size_multiple

    def __call__(self, network: Network, images: Images, device: torch.device) -> DenseMaps:
        """Aggregate the maps of RGB images with one input size; float32, whatever the network computes in.

        Raises:
            ValueError: no images, or images with several input sizes.
        """
        return self.merge(network, self.prepare(images).to(device))

    def input_sizes(self, image_size: Size) -> dict[float, Size]:
        """Size (h, w) of the network's input for each test scale; images with the same fit one batch."""
        return frame_sizes(image_size, self.input_size, self.test_scales, self.size_multiple)

    def prepare(self, images: Images) -> Inputs:
        """Warp RGB images with one input size into the network's input frames, on the CPU.

        Raises:
            ValueError: no images, or images with several input sizes.
        """
        sizes = {image.shape[:2]: self.input_sizes(image.shape[:2]) for image in images}
        common = next(iter(sizes.values()), None)
        if common is None or any(other != common for other in sizes.values()):
            raise ValueError(
                f"expected images of one size (h, w) in the network's input, got {sorted(sizes)}; pass "
                "images of other sizes in separate calls"
            )
        return warp_inputs(images, common, self.alignment)

    def merge(self, network: Network, inputs: Inputs) -> DenseMaps:
        """Aggregate what the network says of prepared images."""
        with torch.inference_mode():
            maps = self.look(network, inputs.reference)
            size = _size(maps.heatmaps)
            others = [_resize(self._merge_flips(network, other).heatmaps, size) for other in inputs.others]
            maps = replace(maps, heatmaps=_mean([maps.heatmaps, *others]))
        return replace(maps, map_from_image=self.map_frames(inputs, size))

    def look(self, network: Network, images: UInt8[Tensor, "b 3 H W"]) -> DenseMaps:
        """The maps of one test scale, in no image's frame yet: what is exported."""
        merged = self._merge_flips(network, images)
        if self.project:
            merged = merged.resized(_size(images))
        return DenseMaps(merged.heatmaps, torch.stack(merged.tags, dim=-1), merged.scales, map_from_image=())

    def map_frames(self, inputs: Inputs, map_size: Size) -> tuple[Affine, ...]:
        """``map_from_image`` of each image."""
        map_from_input = output_frame(inputs.reference.shape[2] // map_size[0], self.alignment)
        return tuple(map_from_input @ frame for frame in inputs.input_from_image)

    def _merge_flips(self, network: Network, inputs: UInt8[Tensor, "b 3 H W"]) -> _Merged:
        """Average the maps of the input and its mirror image; their tags are kept side by side."""
        straight = _merge_strides(network(inputs))
        if not self.flip:
            return straight
        mirrored = _merge_strides(network(inputs.flip(3)))
        scales = straight.scales
        if scales is not None and mirrored.scales is not None:
            scales = _mean([scales, self._unmirror(mirrored.scales)])
        return _Merged(
            heatmaps=_mean([straight.heatmaps, self._unmirror(mirrored.heatmaps)]),
            tags=(*straight.tags, *map(self._unmirror, mirrored.tags)),
            scales=scales,
        )

    def _unmirror(self, maps: Float32[Tensor, "b k h w"]) -> Float32[Tensor, "b k h w"]:
        return maps.flip(3)[:, self.flip_permutation]


def _merge_strides(output: NetworkOutput) -> _Merged:
    """Average the heatmaps of all strides at the finest; tags come with the first."""
    finest = output[-1]
    size = _size(finest.heatmaps)
    tags = output[0].tags
    if tags is None:
        raise ValueError("expected tags in the network's first output, got none; switch its tag head on")
    return _Merged(
        heatmaps=_mean([_resize(maps.heatmaps.float(), size) for maps in output]),
        tags=(_resize(tags.float(), size),),
        scales=None if finest.scales is None else finest.scales.float(),
    )


def _resize(maps: Float32[Tensor, "b k h w"], size: Size) -> Float32[Tensor, "b k h2 w2"]:
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _size(maps: Tensor) -> Size:
    h, w = maps.shape[2:]
    return h, w


def _mean(maps: Sequence[Float32[Tensor, "b k h w"]]) -> Float32[Tensor, "b k h w"]:
    if len(maps) == 1:
        return maps[0]
    total = maps[0] + maps[1]
    for other in maps[2:]:
        total += other
    return total.div_(len(maps))
