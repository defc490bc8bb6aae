"""Sub-pixel positions of a peak in a heatmap (h w): offsets (x, y) from its pixel's centre, in pixels."""

from __future__ import annotations

import cv2
import numpy as np


def quarter(heatmap, x, y):
    """Return a quarter of a pixel towards the higher neighbour. Newell et al., "Stacked Hourglass", 2016."""
    h, w = heatmap.shape
    right = heatmap[y, min(x + 1, w - 1)] > heatmap[y, max(x - 1, 0)]
    below = heatmap[min(y + 1, h - 1), x] > heatmap[max(y - 1, 0), x]
    return np.array([0.25 if right else -0.25, 0.25 if below else -0.25])


def modulated(heatmap, *, kernel_size=11, sigma=2.0):
    """Return the heatmap blurred by a Gaussian, with zeros around it. DARK (CVPR 2020), section 3.2."""
    border = kernel_size // 2
    padded = np.pad(heatmap.astype(np.float64), border)
    return cv2.GaussianBlur(padded, (kernel_size, kernel_size), sigma)[border:-border, border:-border]


def dark(blurred, x, y):
    """Return the maximum of a Gaussian fitted to a modulated heatmap, or None where the fit has none.

    DARK, equations 6 to 9: -H^-1 g of the log-heat. The height of the heat adds a constant to its logarithm,
    so that restoring it changes nothing.
    """
    h, w = blurred.shape
    if not (2 <= x < w - 2 and 2 <= y < h - 2):
        return None
    p = np.log(np.maximum(blurred[y - 2 : y + 3, x - 2 : x + 3].astype(np.float64), 1e-10))
    gradient = np.array([p[2, 3] - p[2, 1], p[3, 2] - p[1, 2]]) / 2
    xx, yy = (p[2, 4] - 2 * p[2, 2] + p[2, 0]) / 4, (p[4, 2] - 2 * p[2, 2] + p[0, 2]) / 4
    xy = (p[3, 3] - p[1, 3] - p[3, 1] + p[1, 1]) / 4
    if xx * yy - xy**2 <= 0 or xx >= 0:
        return None
    return -np.linalg.solve(np.array([[xx, xy], [xy, yy]]), gradient)
