"""Recovery of missing keypoints: HigherHRNet's and SWAHR's test-time refinement. Frame: map."""

from __future__ import annotations

import numpy as np


def best_pixel(heatmap, tags, wanted):
    """Return (x, y) of the maximum of heat - round(|tag - wanted|), the first in reading order.

    Args:
        heatmap: of one keypoint (h w).
        tags: of the same keypoint (h w t).
        wanted: a person's mean tag (t).
    """
    distance = np.sqrt(((tags.astype(np.float64) - wanted) ** 2).sum(axis=2))
    y, x = np.unravel_index(np.argmax(heatmap - np.round(distance)), heatmap.shape)
    return int(x), int(y)
