"""Slow, obvious versions of the grouping stage."""

import numpy as np


def peaks_of_map(heatmap: np.ndarray, window: int, threshold: float) -> list[tuple[float, int, int]]:
    """(score, x, y) of every pixel that nothing in the window around it exceeds, best first."""
    h, w = heatmap.shape
    reach = window // 2
    found = []
    for y in range(h):
        for x in range(w):
            around = heatmap[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if heatmap[y, x] >= around.max() and heatmap[y, x] > threshold:
                found.append((float(heatmap[y, x]), x, y))
    return sorted(found, reverse=True)
