"""Aggregation: runs a network on images and merges its maps over strides, test scales and mirror images.

As in HigherHRNet (Cheng et al., CVPR 2020, section 3.3 "Heatmap aggregation") and SWAHR.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from swahr.aggregate.inputs import REFERENCE, Images, Inputs, Size, frame_sizes, output_frame, warp_inputs
from swahr.choices import check_choice
from swahr.geometry import Affine, Alignment
from swahr.map_kinds import map_kind
from swahr.structures import DenseMaps, NetworkOutput

Network = Callable[[Tensor], NetworkOutput]
Fields = Mapping[str, Float32[Tensor, "b c h w"]]


class Aggregator:
    """Warps images into the input frame, runs the network and merges its maps to `DenseMaps`.

    How a map is merged depends on its kind (`swahr.map_kinds`). Heatmaps are averaged over strides, mirror
    images and test scales at the size of the finest stride. Tags are those of the coarsest stride at test
    scale 1, with one dimension per mirror image; scale maps are those of the finest stride at test scale 1.

    Args:
        flip_permutation: for each keypoint the index of its mirror image.
        input_size: short side of the input at test scale 1, in pixels.
        test_scales: factors of ``input_size``, which include 1.
        flip: also run the network on the mirrored input.
        project: resize the maps to the size of the input; otherwise they have the network's finest stride.
        alignment: position of the image in the input and of the maps on it, as in training: ``centre``, or
            ``official`` for published weights (see `swahr.aggregate.inputs`).
        round_to: sides of the smallest input are rounded up to a multiple of this, a multiple of
            ``size_multiple``.
        size_multiple: the network accepts sides that are multiples of this.
        max_input_pixels: images that need larger inputs, such as very long ones, are refused.

    Raises:
        ValueError: a size is not positive, ``round_to`` is not a multiple of ``size_multiple``, test scale 1
            is missing, or the alignment is unknown.
    """

    def __init__(
        self,
        flip_permutation: Sequence[int],
        input_size: int = 512,
        test_scales: Sequence[float] = (1.0,),
        flip: bool = True,
        project: bool = False,
        alignment: Alignment = "centre",
        round_to: int = 64,
        size_multiple: int = 32,
        max_input_pixels: int = 2**24,
    ) -> None:
        sizes = f"{input_size} and {list(test_scales)}"
        if input_size < 1 or min(test_scales, default=0) <= 0:
            raise ValueError(f"expected a positive input_size and positive test_scales, got {sizes}")
        if REFERENCE not in test_scales:
            raise ValueError(
                f"expected 1.0 among test_scales, as tags are read there, got {list(test_scales)}; change "
                "input_size for another size"
            )
        if round_to < 1 or round_to % size_multiple:
            raise ValueError(
                f"expected a round_to that is a multiple of the network's size_multiple {size_multiple}, "
                f"got {round_to}; choose another"
            )
        check_choice("aggregate.alignment", alignment, get_args(Alignment))
        self.flip_permutation = list(flip_permutation)
        self.input_size = input_size
        self.test_scales = tuple(dict.fromkeys(float(test_scale) for test_scale in test_scales))
        self.flip, self.project = flip, project
        self.alignment: Alignment = alignment
        self.round_to, self.size_multiple = round_to, size_multiple
        self.max_input_pixels = max_input_pixels

    def __call__(self, network: Network, images: Images, device: torch.device) -> DenseMaps:
        """Return the maps of RGB images in float32; errors as in `prepare`."""
        return self.merge(network, self.prepare(images).to(device))

    def input_sizes(self, image_size: Size) -> dict[float, Size]:
        """Return the input's size (h, w) for each test scale; images with the same sizes fit one batch.

        Raises:
            ValueError: an input has more than ``max_input_pixels``.
        """
        sizes = frame_sizes(image_size, self.input_size, self.test_scales, self.round_to, self.size_multiple)
        h, w = max(sizes.values())
        if h * w > self.max_input_pixels:
            raise ValueError(
                f"the image of size (h, w) = {image_size} needs an input of {(h, w)}, more than "
                f"aggregate.max_input_pixels={self.max_input_pixels}; crop it into parts, lower "
                "aggregate.input_size or aggregate.test_scales, or raise the limit"
            )
        return sizes

    def prepare(self, images: Images) -> Inputs:
        """Warp RGB images with the same `input_sizes` into the network's input frames, on the CPU.

        Raises:
            ValueError: there are no images, or their input sizes differ.
        """
        sizes = {image.shape[:2]: self.input_sizes(image.shape[:2]) for image in images}
        common = next(iter(sizes.values()), None)
        if common is None or any(other != common for other in sizes.values()):
            raise ValueError(
                f"expected images of one size (h, w) in the network's input, got {sorted(sizes)}; pass other "
                "sizes in separate calls"
            )
        return warp_inputs(images, common, self.alignment)

    def merge(self, network: Network, inputs: Inputs) -> DenseMaps:
        """Return the aggregated maps of prepared images."""
        with torch.inference_mode():
            fields = dict(self.forward_test_scale(network, inputs.reference))
            size = _size(fields["heatmaps"])
            averaged = {name: [maps] for name, maps in fields.items() if map_kind(name).average_test_scales}
            for other in inputs.others:
                merged = self._merge_flips(network, other)
                for name, maps in averaged.items():
                    maps.append(_resize(merged[name], size))
            fields |= {name: _mean(maps) for name, maps in averaged.items()}
        return DenseMaps(fields, map_from_image=self.map_frames(inputs, size))

    def forward_test_scale(self, network: Network, images: UInt8[Tensor, "b 3 H W"]) -> Mapping[str, Tensor]:
        """Return the merged maps of one test scale by name; this part of aggregation is exported to ONNX.

        Maps whose mirror images are stacked, such as tags, are ``(b k h w t)``.
        """
        fields = self._merge_flips(network, images)
        if self.project:
            fields = {name: _resize(maps, _size(images)) for name, maps in fields.items()}
        return fields

    def map_frames(self, inputs: Inputs, map_size: Size) -> tuple[Affine, ...]:
        """Return ``map_from_image`` of each image."""
        map_from_input = output_frame(inputs.reference.shape[2] // map_size[0], self.alignment)
        return tuple(map_from_input @ frame for frame in inputs.input_from_image)

    def _merge_flips(self, network: Network, inputs: UInt8[Tensor, "b 3 H W"]) -> dict[str, Tensor]:
        """Merge the maps of the input and its mirror image, by their mean or stacked in a last dimension."""
        views = [_merge_strides(network(inputs))]
        if self.flip:
            mirrored = _merge_strides(network(inputs.flip(3)))
            views.append(
                {name: map_kind(name).mirror(maps, self.flip_permutation) for name, maps in mirrored.items()}
            )
        merged = {}
        for name in views[0]:
            maps = [view[name] for view in views]
            merged[name] = torch.stack(maps, dim=-1) if map_kind(name).stack_flips else _mean(maps)
        return merged


def _merge_strides(output: NetworkOutput) -> Fields:
    """Average each map over the strides of its kind at the size of the finest stride, in float32."""
    size = _size(output[-1].heatmaps)
    merged = {}
    for name in dict.fromkeys(name for maps in output for name in maps.fields):
        own = [maps.fields[name] for maps in output if name in maps.fields]
        merged[name] = _mean([_resize(maps.float(), size) for maps in map_kind(name).strides.select(own)])
    return merged


def _resize(maps: Float32[Tensor, "b k h w *t"], size: Size) -> Float32[Tensor, "b k h2 w2 *t"]:
    if maps.dim() == 5:
        return torch.stack([_resize(one, size) for one in maps.unbind(-1)], dim=-1)
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _size(maps: Tensor) -> Size:
    h, w = maps.shape[2:]
    return h, w


def _mean(maps: Sequence[Float32[Tensor, "b k h w *t"]]) -> Float32[Tensor, "b k h w *t"]:
    if len(maps) == 1:
        return maps[0]
    return sum(maps[1:], start=maps[0]).div_(len(maps))
