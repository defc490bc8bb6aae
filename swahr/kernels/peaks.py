"""CPU kernel of `swahr.grouping.peaks`: the best local maxima of heatmaps.

Maps are read in strips so thin that a window centred in one covers all of its rows (after Neubeck & Van Gool,
"Efficient Non-Maximum Suppression", ICPR 2006). In each column of a strip only the highest pixel can be a
peak; its window is read only if it exceeds the threshold and no column within reach is higher.
"""

import numpy as np
from jaxtyping import Float32, Int64
from numba import prange

from swahr.kernels.compiled import compiled

Maps = Float32[np.ndarray, "n h w"]
Map = Float32[np.ndarray, "h w"]
Best = Int64[np.ndarray, " m"]


def best_peaks(
    heatmaps: Maps, *, window: int, threshold: float, count: int, first_only: bool
) -> Int64[np.ndarray, "n m"]:
    """Return pixels ``y * w + x`` of each map's highest peaks, then -1; equal peaks are in reading order.

    Args:
        heatmaps: heatmaps to search.
        window: odd side, in pixels, of the window whose maximum a peak is.
        threshold: a peak is higher than this.
        count: number ``m`` of peaks that are kept.
        first_only: whether among equal pixels in one window only the first is a peak.
    """
    best = np.full((len(heatmaps), count), -1)
    _search_maps(heatmaps, window // 2, np.float32(threshold), first_only, best)
    return best


@compiled(parallel=True)
def _search_maps(
    heatmaps: Maps, reach: int, threshold: np.float32, first_only: bool, best: Int64[np.ndarray, "n m"]
) -> None:
    for i in prange(len(heatmaps)):
        _search_map(heatmaps[i], reach, threshold, first_only, best[i])


@compiled()
def _search_map(heat: Map, reach: int, threshold: np.float32, first_only: bool, best: Best) -> None:
    """Fill ``best``, which is -1 everywhere, with the pixels of one map's highest peaks."""
    h, w = heat.shape
    highest = np.empty(w, np.float32)  # the maximum of each column of the strip
    for top in range(0, h, reach + 1):
        bottom = min(top + reach + 1, h)
        # Column maxima, computed row by row in the order of memory.
        highest[:] = heat[top]
        for y in range(top + 1, bottom):
            for x in range(w):
                highest[x] = heat[y, x] if heat[y, x] > highest[x] else highest[x]
        # The few columns that can hold a peak.
        for x in range(w):
            if highest[x] > threshold and _is_highest_column(highest, x, reach):
                for y in range(top, bottom):
                    if heat[y, x] == highest[x] and _is_peak(heat, y, x, reach, first_only):
                        _insert(heat, y * w + x, best)


@compiled()
def _is_highest_column(highest: Float32[np.ndarray, " w"], x: int, reach: int) -> bool:
    """Return whether no column within reach is higher; the nearest are compared first, as most end there."""
    last = len(highest) - 1
    for away in range(1, reach + 1):
        if highest[max(x - away, 0)] > highest[x] or highest[min(x + away, last)] > highest[x]:
            return False
    return True


@compiled()
def _is_peak(heat: Map, y: int, x: int, reach: int, first_only: bool) -> bool:
    """Return whether a pixel is its window's maximum and, with ``first_only``, the first such pixel in it."""
    if not _is_window_maximum(heat, y, x, reach):
        return False
    if first_only:
        # Earlier pixels of the window in reading order: the rows above, and the pixel's own row up to it.
        for row in range(max(y - reach, 0), y + 1):
            for column in range(max(x - reach, 0), min(x + reach + 1, heat.shape[1]) if row < y else x):
                if heat[row, column] == heat[y, x] and _is_window_maximum(heat, row, column, reach):
                    return False
    return True


@compiled()
def _is_window_maximum(heat: Map, y: int, x: int, reach: int) -> bool:
    h, w = heat.shape
    for row in range(max(y - reach, 0), min(y + reach + 1, h)):
        for column in range(max(x - reach, 0), min(x + reach + 1, w)):
            if heat[row, column] > heat[y, x]:
                return False
    return True


@compiled()
def _insert(heat: Map, pixel: int, best: Best) -> None:
    """Insert a pixel into ``best``, in order of heat, then reading order; the last pixel drops out."""
    w = heat.shape[1]
    score = heat[pixel // w, pixel % w]
    for rank in range(len(best) - 1, -1, -1):
        other = best[rank]
        if other >= 0:
            other_score = heat[other // w, other % w]
            if other_score > score or (other_score == score and other < pixel):
                return
        # The pixel precedes the other, which moves back by one.
        if rank + 1 < len(best):
            best[rank + 1] = other
        best[rank] = pixel
