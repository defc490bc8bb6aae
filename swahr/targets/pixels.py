"""Position, pixel and flat index of keypoints on a map."""

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
    """Return keypoints (frame: input) as real-valued pixel indices of a map; pixel i has its centre at i."""
    factor, shift = _index_from_input(stride, alignment)
    return keypoints * factor + shift


@cache
def _index_from_input(stride: int, alignment: Alignment) -> tuple[float, float]:
    """Return the factor and shift of each coordinate."""
    matrix = (INDEX_FROM_POINT @ map_from_input(stride, alignment)).matrix
    return float(matrix[0, 0]), float(matrix[0, 2])


def centre_pixels(
    indices: Float32[Tensor, "*n 2"], centre: Centre, alignment: Alignment
) -> Int64[Tensor, "*n 2"]:
    """Return each keypoint's pixel (x, y): the one that contains the point, which is also the nearest.

    With ``truncated`` and ``official`` alignment the index is truncated toward zero, as in training of the
    published weights, so that indices in (-1, 0) give pixel 0.
    """
    if centre == "truncated" and alignment == "official":
        return indices.trunc().long()
    return (indices + 0.5).floor().long()


def flat_index(
    pixels: Int64[Tensor, "*n 2"], present: Bool[Tensor, "*n"], size: tuple[int, int]
) -> Int64[Tensor, "*n"]:
    """Return ``y * w + x`` of pixels (x, y) on a map of ``size`` (h, w); -1 where absent or off the map."""
    (h, w), (x, y) = size, pixels.unbind(-1)
    present = present & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return torch.where(present, y * w + x, -1)
