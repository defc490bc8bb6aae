"""Where a keypoint lies on a map: its position, its pixel, its place in the flattened map."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from swahr.geometry import INDEX_FROM_POINT, Alignment, map_from_input

Centre = Literal["truncated", "unbiased"]


def map_indices(
    keypoints: Float32[Tensor, "*n 2"], stride: int, alignment: Alignment
) -> Float32[Tensor, "*n 2"]:
    """Keypoints of the input as real-valued pixel indices of a map (pixel i has its centre at i)."""
    factor, shift = _index_from_input(stride, alignment)
    return keypoints * factor + shift


@cache
def _index_from_input(stride: int, alignment: Alignment) -> tuple[float, float]:
    """Factor and shift of a coordinate."""
    matrix = (INDEX_FROM_POINT @ map_from_input(stride, alignment)).matrix
    return float(matrix[0, 0]), float(matrix[0, 2])


def centre_pixels(
    indices: Float32[Tensor, "*n 2"], centre: Centre, alignment: Alignment
) -> Int64[Tensor, "*n 2"]:
    """The pixel (x, y) that stands for a keypoint.

    The pixel that contains the point, which is also the nearest; except ``truncated`` with ``official``
    alignment, where the index loses its fraction toward zero (as the published weights were trained), so that
    indices in (-1, 0) fall on pixel 0.
    """
    if centre == "truncated" and alignment == "official":
        return indices.trunc().long()
    return (indices + 0.5).floor().long()


def flat_index(
    pixels: Int64[Tensor, "*n 2"], present: Bool[Tensor, "*n"], size: tuple[int, int]
) -> Int64[Tensor, "*n"]:
    """``y * w + x`` of pixels (x, y) on a map of ``size`` (h, w); -1 where one is absent or off the map."""
    (h, w), (x, y) = size, pixels.unbind(-1)
    present = present & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return torch.where(present, y * w + x, -1)
