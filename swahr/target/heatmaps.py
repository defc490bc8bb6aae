"""Gaussian heatmaps, the mask of what is taught, and where tags are read.

Heatmaps: Newell et al., "Associative Embedding", NeurIPS 2017, sec. 3.1, with the same width in pixels on
every stride as in HigherHRNet (CVPR 2020, sec. 3.3). Unbiased centres: Zhang et al., "Distribution-Aware
Coordinate Representation" (DARK), CVPR 2020, sec. 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import get_args

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from swahr.geometry import Alignment
from swahr.structures import ABSENT, Batch, MapTargets, Targets
from swahr.target import loops
from swahr.target.pixels import Centre, centre_pixels, flat_index, map_indices


class TargetEncoder:
    """Draw a batch's targets, on the device of the batch.

    A keypoint is a Gaussian on a square patch of radius int(3 sigma + 1) pixels about its pixel; outside the
    patch it is exactly 0. People on one map are combined by maximum. A keypoint whose pixel is off the map is
    not drawn. A CPU draws by compiled loops; a GPU is not waited for.

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
            ValueError: the input's size is not a multiple of a stride, or the batch's parts do not belong
                together.
        """
        _check(batch)
        draw = _draw_on_cpu if batch.valid.device.type == "cpu" else _draw_on_gpu
        present = batch.visibility > ABSENT
        maps, tag_index = [], []
        for stride in self.strides:
            size = _map_size(batch, stride)
            indices = map_indices(batch.keypoints, stride, self.alignment)
            pixels = centre_pixels(indices, self.centre, self.alignment)
            if self.centre == "truncated":
                patches = _patch(self.sigma, batch.valid.device)
            else:
                patches = _patches(pixels - indices, self.sigma)
            heatmaps, valid, index = draw(pixels, present, patches, batch.valid, size)
            maps.append(MapTargets(heatmaps, valid, stride))
            tag_index.append(index)
        return Targets(maps=tuple(maps), tag_index=tag_index[0])


def _check(batch: Batch) -> None:
    """The loops check no index."""
    people, visibility, valid = (
        tuple(part.shape) for part in (batch.keypoints, batch.visibility, batch.valid)
    )
    if people != (*visibility, 2) or len(visibility) != 3 or valid[:1] != visibility[:1]:
        raise ValueError(
            "expected keypoints (b p k 2), visibility (b p k) and a mask (b H W) of the same images, people "
            f"and keypoints, got {people}, {visibility} and {valid}"
        )


Pixels = Int64[Tensor, "b p k 2"]
Patches = Float32[Tensor, "#b #p #k r r"]
"""A Gaussian for every keypoint, or one for all."""
Drawn = tuple[Float32[Tensor, "b k h w"], Bool[Tensor, "b h w"], Int64[Tensor, "b p k"]]
"""The heatmaps and the mask of one stride, and the pixels' places in a flattened map."""


def _draw_on_cpu(
    pixels: Pixels,
    present: Bool[Tensor, "b p k"],
    patches: Patches,
    valid: Bool[Tensor, "b H W"],
    size: tuple[int, int],
) -> Drawn:
    """Each patch by itself, maps on several cores."""
    heatmaps = torch.empty(len(pixels), pixels.shape[2], *size)
    mask = torch.empty(len(valid), *size, dtype=torch.bool)
    index = torch.empty(present.shape, dtype=torch.int64)
    given = (tensor.contiguous().numpy() for tensor in (pixels, present, patches))
    loops.draw(heatmaps.numpy(), index.numpy(), *given)
    loops.shrink(mask.numpy(), valid.contiguous().numpy())
    return heatmaps, mask, index


def _draw_on_gpu(
    pixels: Pixels,
    present: Bool[Tensor, "b p k"],
    patches: Patches,
    valid: Bool[Tensor, "b H W"],
    size: tuple[int, int],
) -> Drawn:
    """All patches in one scatter, those of absent keypoints as 0."""
    (images, _, num_keypoints), (h, w), device = present.shape, size, pixels.device
    index = flat_index(pixels, present, size)
    around = pixels[..., None] + _offsets(patches.shape[-1] // 2, device)
    # What is off the map goes to its border, where the patch itself is no less.
    x, y = around[..., 0, None, :].clamp(0, w - 1), around[..., 1, :, None].clamp(0, h - 1)
    planes = torch.arange(images * num_keypoints, device=device).view(images, 1, num_keypoints, 1, 1)
    places = (planes * h + y) * w + x
    heat = torch.where((index >= 0)[..., None, None], patches, 0.0)
    heatmaps = heat.new_zeros(images, num_keypoints, h, w)
    # Numbers >= 0 are in the order of their bits, and GPUs have no atomic maximum of floats.
    bits = heatmaps.view(torch.int32).view(-1)
    bits.scatter_reduce_(0, places.flatten(), heat.flatten().view(torch.int32), reduce="amax")
    stride = valid.shape[-1] // w
    counts = valid.view(images, h, stride, w, stride).sum(dim=(2, 4))
    return heatmaps, counts >= (stride**2 + 1) // 2, index


@lru_cache(maxsize=8)
def _patch(sigma: float, device: torch.device) -> Patches:
    """The Gaussian about a pixel's centre; a GPU is sent it once."""
    squared = _offsets(int(3 * sigma + 1), torch.device("cpu")).double().square()
    # In double precision: the published targets are rounded from it.
    return torch.exp((squared[:, None] + squared) / (-2 * sigma**2)).float().to(device)[None, None, None]


def _patches(shift: Float32[Tensor, "b p k 2"], sigma: float) -> Patches:
    """Gaussians whose middle pixels lie ``shift`` (x, y) from their centres."""
    offsets = _offsets(int(3 * sigma + 1), shift.device)
    x, y = torch.exp((shift[..., None] + offsets).square() / (-2 * sigma**2)).unbind(-2)
    return y[..., :, None] * x[..., None, :]


def _offsets(radius: int, device: torch.device) -> Int64[Tensor, " r"]:
    return torch.arange(-radius, radius + 1, device=device)


def _map_size(batch: Batch, stride: int) -> tuple[int, int]:
    height, width = batch.valid.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"expected an input whose size is a multiple of the stride {stride}, got (h, w) = "
            f"{height, width}; choose another input_size"
        )
    return height // stride, width // stride
