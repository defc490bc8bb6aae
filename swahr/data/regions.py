"""Ignored regions of images: COCO's polygons and run lengths, checked and drawn."""

import math
from collections.abc import Mapping, Sequence
from reprlib import repr as shown
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from jaxtyping import Bool

from swahr.coco_json import finite_numbers

_LONGEST_OUTLINE = 2**20  # pixels; COCO's tools need about 100 bytes for each


def check_segmentation(segmentation: Any, size: tuple[int, int], where: str) -> None:
    """Raise ValueError, starting with ``where``, if a segmentation cannot be drawn, or only with much memory.

    ``size`` (h, w) is that of the image.
    """
    if isinstance(segmentation, dict):
        _check_run_lengths(segmentation, size, where)
        return
    if not isinstance(segmentation, list | None):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
            f"{where}: expected polygons or run lengths, got {shown(segmentation)}"
        )
    for polygon in segmentation or ():
        _check_polygon(polygon, size, where)


def _check_run_lengths(runs: Mapping[str, Any], size: tuple[int, int], where: str) -> None:
    if runs.get("size") != list(size):
        raise ValueError(
            f"{where}: expected run lengths for the image's size [h, w] = {list(size)}, got "
            f"{shown(runs.get('size'))}; correct or remove them"
        )
    counts = runs.get("counts")
    if isinstance(counts, str):
        try:
            coco_mask.decode({"size": list(size), "counts": counts})
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{where}: {error}; correct or remove the run lengths") from error
        return
    numbers = finite_numbers(counts, f"{where}, counts")
    if (numbers < 0).any() or (numbers % 1).any() or numbers.sum() != math.prod(size):
        raise ValueError(
            f"{where}: expected run lengths that add up to the image's {math.prod(size)} pixels, got "
            f"{shown(counts)} with the sum {numbers.sum():.15g}; correct or remove them"
        )


def _check_polygon(polygon: Any, size: tuple[int, int], where: str) -> None:
    points = finite_numbers(polygon, where)
    if len(points) % 2:
        raise ValueError(f"{where}: expected polygons as x, y pairs, got {len(points)} numbers; correct it")
    points, reach = points.reshape(-1, 2), max(size)
    if (points < -reach).any() or (points > np.array(size[::-1]) + reach).any():
        far = points[np.abs(points).max(axis=1).argmax()].tolist()
        raise ValueError(
            f"{where}: expected polygons in the image of size (h, w) = {size}, got the point {far}; correct "
            "or remove it"
        )
    length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1, initial=0).sum()
    if length > _LONGEST_OUTLINE:
        raise ValueError(
            f"{where}: expected polygons with outlines of at most {_LONGEST_OUTLINE} pixels, got "
            f"{length:.0f}; simplify or remove it"
        )


def region_mask(
    segmentation: Any, box: Sequence[int | float], size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """The pixels of an annotated region in an image of ``size`` (h, w). Frame: image.

    ``segmentation`` has COCO polygons or run lengths, compressed or not, for which `check_segmentation` found
    no fault. If it is empty, ``box`` (x, y, width, height) is used.
    """
    if runs := _run_lengths(segmentation, size):
        return np.asarray(coco_mask.decode(coco_mask.merge(runs)), dtype=bool)
    x, y, width, height = box
    left, top = max(0, math.floor(x)), max(0, math.floor(y))
    region = np.zeros(size, dtype=bool)
    region[top : max(0, math.ceil(y + height)), left : max(0, math.ceil(x + width))] = True
    return region


def region_box(segmentation: Any, size: tuple[int, int]) -> list[float] | None:
    """The bounding box (x, y, width, height) of a segmentation; None if it is empty."""
    runs = _run_lengths(segmentation, size)
    return np.ravel(coco_mask.toBbox(coco_mask.merge(runs))).tolist() if runs else None


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> list[Any]:
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            return [{"size": list(size), "counts": counts}]
        return [coco_mask.frPyObjects({"size": list(size), "counts": [*map(int, counts)]}, *size)]
    polygons = [polygon for polygon in segmentation or () if len(polygon) >= 6]
    return list(coco_mask.frPyObjects(polygons, *size)) if polygons else []
