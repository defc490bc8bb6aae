"""Gaussian heatmaps, the mask of what is taught, and where tags are read.

Heatmaps: Newell et al., "Associative Embedding", NeurIPS 2017, sec. 3.1, with the same width in pixels on
every stride as in HigherHRNet (CVPR 2020, sec. 3.3). Unbiased centres: Zhang et al., "Distribution-Aware
Coordinate Representation" (DARK), CVPR 2020, sec. 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from swahr.geometry import Alignment
from swahr.structures import ABSENT, Batch, MapTargets, Targets
from swahr.target.pixels import Centre, centre_pixels, flat_index, map_indices, on_map


class TargetEncoder:
    """Draw a batch's targets, on the device of the batch.

    A keypoint is a Gaussian on a square patch of radius int(3 sigma + 1) pixels about its pixel; outside the
    patch it is exactly 0. People on one map are combined by maximum. A keypoint whose pixel is off the map is
    not drawn.

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
        coarsest = self.strides[0]
        size = _map_size(batch, coarsest)
        indices = map_indices(batch.keypoints, coarsest, self.alignment)
        pixels = centre_pixels(indices, self.centre, self.alignment)
        return Targets(
            maps=tuple(self._encode(batch, stride) for stride in self.strides),
            tag_index=flat_index(pixels, batch.visibility > ABSENT, size),
        )

    def _encode(self, batch: Batch, stride: int) -> MapTargets:
        size = _map_size(batch, stride)
        indices = map_indices(batch.keypoints, stride, self.alignment)
        pixels = centre_pixels(indices, self.centre, self.alignment)
        drawn = (batch.visibility > ABSENT) & on_map(pixels, size)
        image, _, keypoint = drawn.nonzero(as_tuple=True)
        num_keypoints = drawn.shape[-1]
        heatmaps = draw_gaussians(
            plane=image * num_keypoints + keypoint,
            centres=None if self.centre == "truncated" else indices[drawn],
            pixels=pixels[drawn],
            sigma=self.sigma,
            shape=(len(batch) * num_keypoints, *size),
        )
        return MapTargets(
            heatmaps=heatmaps.view(len(batch), num_keypoints, *size),
            valid=_shrink(batch.valid, stride),
            stride=stride,
        )


def draw_gaussians(
    plane: Int64[Tensor, " n"],
    centres: Float32[Tensor, "n 2"] | None,
    pixels: Int64[Tensor, "n 2"],
    sigma: float,
    shape: tuple[int, int, int],
) -> Float32[Tensor, "planes h w"]:
    """Draw Gaussians of peak 1 on a stack of maps, combined by maximum.

    Args:
        plane: the map on which each is drawn.
        centres: (x, y) pixel indices, real-valued, of their centres; None: those of ``pixels``.
        pixels: (x, y) pixel indices of the middles of their patches.
        sigma: pixels.
        shape: (planes, h, w).
    """
    _, height, width = shape
    radius = int(3 * sigma + 1)
    offsets = torch.arange(-radius, radius + 1, device=pixels.device)
    x = pixels[:, :1] + offsets
    y = pixels[:, 1:] + offsets
    # Exponentials in double precision, which Apple's devices lack: the published targets are rounded from it.
    precision = torch.float32 if pixels.device.type == "mps" else torch.float64
    # Gaussians centred on their pixels are all alike.
    dx, dy = (offsets[None],) * 2 if centres is None else (x - centres[:, :1], y - centres[:, 1:])
    squared = dx.to(precision).square()[:, None, :] + dy.to(precision).square()[:, :, None]
    values = torch.exp(-squared / (2 * sigma**2)).float()
    inside = ((x >= 0) & (x < width))[:, None, :] & ((y >= 0) & (y < height))[:, :, None]
    # What juts out of the map is drawn as 0 on its border, where it changes nothing.
    values = torch.where(inside, values, 0.0)
    row = (plane[:, None] * height + y.clamp(0, height - 1)) * width
    index = row[:, :, None] + x.clamp(0, width - 1)[:, None, :]
    maps = torch.zeros(shape, device=pixels.device)
    maps.view(-1).scatter_reduce_(0, index.view(-1), values.view(-1), reduce="amax")
    return maps


def _map_size(batch: Batch, stride: int) -> tuple[int, int]:
    height, width = batch.valid.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(
            f"expected an input whose size is a multiple of the stride {stride}, got (h, w) = "
            f"{height, width}; choose another input_size"
        )
    return height // stride, width // stride


def _shrink(valid: Bool[Tensor, "b H W"], stride: int) -> Bool[Tensor, "b h w"]:
    """A pixel of the map is valid when at least half of its input pixels are."""
    return F.avg_pool2d(valid.float()[:, None], stride)[:, 0] >= 0.5
