"""Which pixels may be learned from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from jaxtyping import Bool


def region_mask(
    segmentation: Any, box: Sequence[int | float], size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """The pixels of an annotated region. Frame: image.

    Args:
        segmentation: COCO's polygons, or run lengths (compressed or not); nothing gives the box.
        box: x, y, width, height in pixels.
        size: the image's (h, w).

    Raises:
        ValueError: the run lengths are of another size than the image.
    """
    runs = _run_lengths(segmentation, size)
    if runs:
        return np.asarray(coco_mask.decode(coco_mask.merge(runs)), dtype=bool)
    x, y, width, height = box
    region = np.zeros(size, dtype=bool)
    top, left = max(0, int(np.floor(y))), max(0, int(np.floor(x)))
    region[top : max(0, int(np.ceil(y + height))), left : max(0, int(np.ceil(x + width)))] = True
    return region


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> list[Any]:
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != size:
            raise ValueError(
                f"expected run lengths for the image's size (h, w) = {size}, got {segmentation['size']}"
            )
        compressed = not isinstance(segmentation["counts"], list)
        return [segmentation if compressed else coco_mask.frPyObjects(segmentation, *size)]
    polygons = [polygon for polygon in segmentation or () if len(polygon) >= 6]
    return list(coco_mask.frPyObjects(polygons, *size)) if polygons else []
