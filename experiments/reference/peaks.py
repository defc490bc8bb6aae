"""Peaks of heatmaps. Newell et al., "Associative Embedding", 2017, section 3.3. Frame: map."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import maximum_filter


def find_peaks(heatmap, *, window=5, max_people=30, threshold=0.1, plateaus="one"):
    """Return the best peaks of a heatmap (h w) as a list of (x, y, score), best first, in pixel indices.

    A peak is the maximum of the ``window`` (odd, pixels) around it and higher than ``threshold``. Of equal
    maxima in one window only the first in reading order is a peak, or with ``plateaus`` ``all`` each is one.
    Equal peaks come in reading order; with ``all`` in that of `torch.topk`, as published.
    """
    h, w = heatmap.shape
    reach = window // 2
    is_maximum = heatmap == maximum_filter(heatmap, size=window, mode="constant", cval=-np.inf)
    peaks = []
    for y, x in np.argwhere(is_maximum & (heatmap > threshold)).tolist():
        equal = [
            (row, column)
            for row in range(max(0, y - reach), min(h, y + reach + 1))
            for column in range(max(0, x - reach), min(w, x + reach + 1))
            if is_maximum[row, column] and heatmap[row, column] == heatmap[y, x]
        ]
        if plateaus == "all" or (y, x) == min(equal):
            peaks.append((x, y, float(heatmap[y, x])))
    if plateaus == "all":
        maxima = torch.from_numpy(np.where(is_maximum, heatmap, 0)).flatten()
        order = maxima.topk(min(max_people, h * w)).indices.tolist()
        by_pixel = {y * w + x: (x, y, score) for x, y, score in peaks}
        return [by_pixel[pixel] for pixel in order if pixel in by_pixel]
    return sorted(peaks, key=lambda peak: (-peak[2], peak[1], peak[0]))[:max_people]
