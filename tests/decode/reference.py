"""Slow, obvious versions of the decode stage, and a little target encoder."""

import cv2
import numpy as np


def dark_position(heatmap: np.ndarray, x: int, y: int, kernel_size: int, sigma: float) -> np.ndarray:
    """DARK on one map with one peak, in float64: blur all of it, take logarithms, one Newton step."""
    border = kernel_size // 2
    padded = np.pad(heatmap.astype(np.float64), border)
    blurred = cv2.GaussianBlur(padded, (kernel_size, kernel_size), sigma)[border:-border, border:-border]
    p = np.log(np.maximum(blurred * heatmap.max() / blurred.max(), 1e-10))
    gradient = np.array([p[y, x + 1] - p[y, x - 1], p[y + 1, x] - p[y - 1, x]]) / 2
    xx = (p[y, x + 2] - 2 * p[y, x] + p[y, x - 2]) / 4
    yy = (p[y + 2, x] - 2 * p[y, x] + p[y - 2, x]) / 4
    xy = (p[y + 1, x + 1] - p[y - 1, x + 1] - p[y + 1, x - 1] + p[y - 1, x - 1]) / 4
    return np.array([x, y]) - np.linalg.solve(np.array([[xx, xy], [xy, yy]]), gradient)


def best_place(heatmap: np.ndarray, tags: np.ndarray, wanted: np.ndarray) -> tuple[int, int]:
    """(x, y) of the maximum of heat less the rounded distance between tags."""
    h, w = heatmap.shape
    value = {
        (y, x): heatmap[y, x] - np.round(np.linalg.norm(tags[y, x] - wanted))
        for y in range(h)
        for x in range(w)
    }
    y, x = max(value, key=lambda place: (value[place], -place[0], -place[1]))
    return x, y


def draw_people(
    keypoints: np.ndarray, present: np.ndarray, size: tuple[int, int], sigma: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Perfect heatmaps (k h w), unbiased and combined by maximum, and tags (k h w 1): 2 per person number.

    ``keypoints`` (p k 2) are continuous map coordinates.
    """
    h, w = size
    _, k, _ = keypoints.shape
    y, x = np.mgrid[:h, :w] + 0.5
    heatmaps, tags = np.zeros((k, h, w)), np.zeros((k, h, w, 1))
    for person, keypoint in zip(*np.nonzero(present), strict=True):
        at = keypoints[person, keypoint]
        gaussian = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))
        tags[keypoint, gaussian > heatmaps[keypoint]] = 2.0 * person
        heatmaps[keypoint] = np.maximum(heatmaps[keypoint], gaussian)
    return heatmaps.astype(np.float32), tags.astype(np.float32)
