"""The search for a heatmap's best local maxima, on a CPU.

Rows are looked at in strips so thin that a window centred in one reaches all of it (after Neubeck & Van Gool,
"Efficient Non-Maximum Suppression", ICPR 2006): of each column only the highest pixel can be a peak, and only
where it is above the threshold and no column near it is higher need the window itself be read.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64
from numba import prange

from swahr.compiled import compiled


def best_maxima(
    heatmaps: Float32[np.ndarray, "n h w"], *, window: int, threshold: float, count: int, first_only: bool
) -> Int64[np.ndarray, "n m"]:
    """Pixel ``y * w + x`` of the ``count`` highest peaks of every map, then -1. Equal ones in reading order.

    Args:
        heatmaps: what is searched.
        window: odd side of a window of which a peak is the maximum.
        threshold: a peak is higher than this.
        count: how many peaks are kept.
        first_only: whether of equal peaks in one window only the first is one.
    """
    best = np.full((len(heatmaps), count), -1)
    _search_planes(heatmaps, window // 2, np.float32(threshold), first_only, best)
    return best


@compiled(parallel=True)
def _search_planes(
    heatmaps: Float32[np.ndarray, "n h w"],
    reach: int,
    threshold: np.float32,
    first_only: bool,
    best: Int64[np.ndarray, "n m"],
) -> None:
    for plane in prange(len(heatmaps)):
        _search(heatmaps[plane], reach, threshold, first_only, best[plane])


@compiled()
def _search(
    heat: Float32[np.ndarray, "h w"],
    reach: int,
    threshold: np.float32,
    first_only: bool,
    best: Int64[np.ndarray, " m"],
) -> None:
    h, w = heat.shape
    highest = np.empty(w, np.float32)
    for top in range(0, h, reach + 1):
        bottom = min(top + reach + 1, h)
        highest[:] = heat[top]
        for y in range(top + 1, bottom):
            for x in range(w):
                highest[x] = heat[y, x] if heat[y, x] > highest[x] else highest[x]
        for x in range(w):
            if highest[x] > threshold and _leads(highest, x, reach):
                for y in range(top, bottom):
                    if heat[y, x] == highest[x] and _is_peak(heat, y, x, reach, first_only):
                        _keep(heat, y * w + x, best)


@compiled()
def _leads(highest: Float32[np.ndarray, " w"], x: int, reach: int) -> bool:
    """Whether no column within reach is higher; most are ruled out by the nearest."""
    last = len(highest) - 1
    for away in range(1, reach + 1):
        if highest[max(x - away, 0)] > highest[x] or highest[min(x + away, last)] > highest[x]:
            return False
    return True


@compiled()
def _is_peak(heat: Float32[np.ndarray, "h w"], y: int, x: int, reach: int, first_only: bool) -> bool:
    if not _is_highest(heat, y, x, reach):
        return False
    if first_only:
        for row in range(max(y - reach, 0), y + 1):
            for column in range(max(x - reach, 0), min(x + reach + 1, heat.shape[1]) if row < y else x):
                if heat[row, column] == heat[y, x] and _is_highest(heat, row, column, reach):
                    return False
    return True


@compiled()
def _is_highest(heat: Float32[np.ndarray, "h w"], y: int, x: int, reach: int) -> bool:
    """Whether nothing in the window about a pixel is higher."""
    h, w = heat.shape
    for row in range(max(y - reach, 0), min(y + reach + 1, h)):
        for column in range(max(x - reach, 0), min(x + reach + 1, w)):
            if heat[row, column] > heat[y, x]:
                return False
    return True


@compiled()
def _keep(heat: Float32[np.ndarray, "h w"], pixel: int, kept: Int64[np.ndarray, " m"]) -> None:
    """Put a pixel in its place among those kept, highest first; what is one too many is dropped."""
    w = heat.shape[1]
    score = heat[pixel // w, pixel % w]
    for rank in range(len(kept) - 1, -1, -1):
        other = kept[rank]
        if other >= 0:
            other_score = heat[other // w, other % w]
            if other_score > score or (other_score == score and other < pixel):
                return
        if rank + 1 < len(kept):
            kept[rank + 1] = other
        kept[rank] = pixel
