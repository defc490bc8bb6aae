"""Gaussian heatmaps, the mask of what is taught, and where tags are read.

Heatmaps: Newell et al., "Associative Embedding", NeurIPS 2017, sec. 3.1, with the same width in pixels on
every stride as in HigherHRNet (CVPR 2020, sec. 3.3). Unbiased centres: Zhang et al., "Distribution-Aware
Coordinate Representation" (DARK), CVPR 2020, sec. 3.2.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import accumulate, pairwise
from typing import NamedTuple, get_args

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from swahr.geometry import Alignment
from swahr.structures import ABSENT, Batch, MapTargets, Targets
from swahr.target.pixels import Centre, centre_pixels, flat_index, map_indices, on_map


class TargetEncoder:
    """Draw a batch's targets, on the device of the batch.

    A keypoint is a Gaussian on a square patch of radius int(3 sigma + 1) pixels about its pixel; outside the
    patch it is exactly 0. People on one map are combined by maximum. A keypoint whose pixel is off the map is
    not drawn. No GPU is waited for.

    Args:
        strides: of the maps, coarse to fine.
        sigma: of the Gaussian, pixels of the map, the same on every stride.
        centre: ``truncated`` centres the Gaussian on a pixel, ``unbiased`` on the real-valued position.
        alignment: how maps lie on the input, see `swahr.geometry.map_from_input`.

    Raises:
        ValueError: a parameter is out of range.
    """

    def __init__(
        self,
        strides: Sequence[int],
        sigma: float = 2.0,
        centre: Centre = "truncated",
        alignment: Alignment = "centre",
    ) -> None:
        if not strides or min(strides) < 1 or sorted(strides, reverse=True) != list(strides):
            raise ValueError(f"expected positive strides, coarse to fine, got {tuple(strides)}")
        if not sigma > 0:
            raise ValueError(f"expected sigma > 0 pixels, got {sigma}")
        for value, kind in ((centre, Centre), (alignment, Alignment)):
            if value not in get_args(kind):
                raise ValueError(f"expected one of {get_args(kind)}, got {value!r}")
        self.strides = tuple(strides)
        self.sigma = sigma
        self.centre: Centre = centre
        self.alignment: Alignment = alignment

    def __call__(self, batch: Batch) -> Targets:
        """Draw heatmaps and mask per stride, and find where tags are read.

        Raises:
            ValueError: the input's size is not a multiple of a stride.
        """
        sizes = tuple(_map_size(batch, stride) for stride in self.strides)
        images, _, num_keypoints = batch.visibility.shape
        canvas = _canvas(sizes, images, num_keypoints, self.sigma, batch.keypoints.device)
        indices = torch.stack([map_indices(batch.keypoints, s, self.alignment) for s in self.strides])
        pixels = centre_pixels(indices, self.centre, self.alignment)
        drawn = (batch.visibility > ABSENT) & on_map(pixels, canvas.last)
        shift = None if self.centre == "truncated" else pixels - indices
        # A GPU would have to be waited for to know which are drawn: there all are, some of them nowhere.
        drawing = _draw(canvas, pixels, shift, drawn, picked=drawn.device.type == "cpu")
        heatmaps = canvas.cut(drawing)
        valid = _shrink(batch.valid, self.strides)
        return Targets(
            maps=tuple(map(MapTargets, heatmaps, valid, self.strides)),
            tag_index=flat_index(pixels[0], drawn[0], sizes[0][1]),
        )


_CHUNK = 128
"""So many patches at a time on a CPU, whose caches hold that much."""


class _Canvas(NamedTuple):
    """A flat tensor that holds the maps of all strides of a batch, with margins for patches that jut out.

    Each row and each map is followed by a margin of a patch's radius, which is also the margin before the
    next. In front of all maps is room for a patch that belongs to none of them.

    Attributes:
        shapes: (b, k, h, w) of each stride's maps.
        radius: of a patch, pixels.
        pitch: from one row to the next, on every stride.
        begins: where each stride's first pixel is.
        last: the last pixel (x, y) of a map.
        start: where each map's first pixel is.
        sigma: of the Gaussians.
        offsets: of a patch's pixels from its middle, along x or y.
        patch: where a patch's pixels are, from its middle.
        gaussian: their values where that is the Gaussian's centre.
    """

    shapes: tuple[tuple[int, int, int, int], ...]
    radius: int
    pitch: int
    begins: tuple[int, ...]
    last: Int64[Tensor, "s 1 1 1 2"]
    start: Int64[Tensor, "s b 1 k"]
    sigma: float
    offsets: Int64[Tensor, " r"]
    patch: Int64[Tensor, " q"]
    gaussian: Float32[Tensor, " q"]

    @property
    def nowhere(self) -> int:
        """The middle of the patch that belongs to no map."""
        return self.radius * self.pitch + self.radius

    def empty(self) -> Float32[Tensor, " pixels"]:
        """A canvas with nothing drawn."""
        return torch.zeros(self.begins[-1], device=self.patch.device)

    def cut(self, flat: Float32[Tensor, " pixels"]) -> list[Float32[Tensor, "b k h w"]]:
        """The maps of each stride without their margins."""
        maps = []
        for (b, k, h, w), (begin, end) in zip(self.shapes, pairwise(self.begins), strict=True):
            stack = flat[begin:end].view(b, k, h + self.radius, self.pitch)
            maps.append(stack[:, :, :h, :w].contiguous())
        return maps


@lru_cache(maxsize=8)
def _canvas(
    sizes: tuple[tuple[int, int], ...], images: int, num_keypoints: int, sigma: float, device: torch.device
) -> _Canvas:
    """The same for all batches of one size: a GPU is sent its tensors once."""
    radius = int(3 * sigma + 1)
    pitch = max(w for _, w in sizes) + radius
    planes = torch.arange(images * num_keypoints).view(images, 1, num_keypoints)
    areas = [(h + radius) * pitch for h, _ in sizes]
    begins = tuple(
        accumulate((area * planes.numel() for area in areas), initial=(3 * radius + 1) * pitch + radius)
    )
    offsets = torch.arange(-radius, radius + 1)
    squared = (offsets.square()[:, None] + offsets.square()).flatten()
    return _Canvas(
        shapes=tuple((images, num_keypoints, h, w) for h, w in sizes),
        radius=radius,
        pitch=pitch,
        begins=begins,
        last=torch.tensor([[[[[w - 1, h - 1]]]] for h, w in sizes], device=device),
        start=torch.stack([b + a * planes for a, b in zip(areas, begins, strict=False)]).to(device),
        sigma=sigma,
        offsets=offsets.to(device),
        patch=(offsets[:, None] * pitch + offsets).flatten().to(device),
        # In double precision: the published targets are rounded from it.
        gaussian=torch.exp(-squared.double() / (2 * sigma**2)).float().to(device),
    )


def _draw(
    canvas: _Canvas,
    pixels: Int64[Tensor, "s b p k 2"],
    shift: Float32[Tensor, "s b p k 2"] | None,
    drawn: Bool[Tensor, "s b p k"],
    *,
    picked: bool,
) -> Float32[Tensor, " pixels"]:
    """Draw every keypoint on the maps of every stride.

    Args:
        canvas: where.
        pixels: (x, y) of the middles of the patches.
        shift: (x, y) of these from the Gaussians' centres; None: they are the centres.
        drawn: False where nothing is drawn.
        picked: find those that are drawn first, and do not visit the others.
    """
    x, y = pixels.unbind(-1)
    middles = canvas.start + y * canvas.pitch + x
    if picked:
        some = drawn.flatten().nonzero()[:, 0]
        middles = middles.flatten().index_select(0, some)
        shift = None if shift is None else shift.flatten(0, 3).index_select(0, some)
    else:
        middles = torch.where(drawn, middles, canvas.nowhere).flatten()
        shift = None if shift is None else shift.flatten(0, 3)
    chunk = _CHUNK if picked else max(1, len(middles))
    flat = canvas.empty()
    # Numbers >= 0 are in the order of their bits, and integers are compared in less time.
    bits = flat.view(torch.int32)
    alike = canvas.gaussian.expand(min(chunk, len(middles)), -1).reshape(-1)
    for first in range(0, len(middles), chunk):
        part = slice(first, first + chunk)
        index = (middles[part, None] + canvas.patch).view(-1)
        heat = alike[: len(index)] if shift is None else _gaussians(canvas, shift[part])
        bits.scatter_reduce_(0, index, heat.view(torch.int32), reduce="amax")
    return flat


def _gaussians(canvas: _Canvas, shift: Float32[Tensor, "n 2"]) -> Float32[Tensor, " pixels"]:
    """Patches whose middles are off their centres."""
    x, y = torch.exp((shift[:, :, None] + canvas.offsets).square() / (-2 * canvas.sigma**2)).unbind(1)
    return (y[:, :, None] * x[:, None, :]).view(-1)


def _map_size(batch: Batch, stride: int) -> tuple[int, int]:
    height, width = batch.valid.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"expected an input whose size is a multiple of the stride {stride}, got (h, w) = "
            f"{height, width}; choose another input_size"
        )
    return height // stride, width // stride


def _shrink(valid: Bool[Tensor, "b H W"], strides: Sequence[int]) -> list[Bool[Tensor, "b h w"]]:
    """Per stride: a pixel of the map is valid when at least half of its input pixels are."""
    dtype = torch.uint8 if strides[0] < 16 else torch.int32
    pixels = valid.contiguous().view(torch.uint8).to(dtype)
    masks: list[Tensor] = []
    b, counts, done = len(valid), pixels, 1
    for stride in reversed(strides):
        if stride % done:
            counts, done = pixels, 1
        step = stride // done
        rows = counts.view(b, -1, step, counts.shape[-1]).sum(dim=2, dtype=dtype)
        counts, done = reduce(operator.add, [rows[..., first::step] for first in range(step)]), stride
        masks.append(counts >= (stride**2 + 1) // 2)
    return masks[::-1]
