"""Training targets, keypoint by keypoint. Newell et al., 2017, section 3.1; DARK, section 3.2."""

from __future__ import annotations

import math

import numpy as np


def map_indices(keypoints, stride, alignment="centre"):
    """Return input coordinates (x, y) as pixel indices of the map of a stride.

    ``centre``: the map is the input scaled down. ``official``: map pixel i lies on input pixel i * stride.
    """
    return keypoints / stride - 0.5 if alignment == "centre" else (keypoints - 0.5) / stride


def centre_pixel(x, y, *, truncate=False):
    """Return the pixel of a keypoint at pixel indices (x, y): the nearest, or (as published) truncated."""
    return (int(x), int(y)) if truncate else (math.floor(x + 0.5), math.floor(y + 0.5))


def heatmaps(keypoints, visibility, size, sigma, *, unbiased=False, truncate=False):
    """Return Gaussian targets (b k h w): the maximum over people, 0 beyond int(3 sigma + 1) pixels of each.

    Args:
        keypoints: of people (b p k 2), in pixel indices of the map.
        visibility: (b p k), 0 where a keypoint is absent.
        size: (h, w) of the map.
        sigma: of the Gaussian, in pixels.
        unbiased: centre the Gaussian on the keypoint itself, not on its pixel.
        truncate: see `centre_pixel`.
    """
    b, people, k, _ = keypoints.shape
    h, w = size
    reach = int(3 * sigma + 1)
    maps = np.zeros((b, k, h, w))
    for image, person, keypoint in np.ndindex(b, people, k):
        u, v = keypoints[image, person, keypoint].tolist()
        x, y = centre_pixel(u, v, truncate=truncate)
        if visibility[image, person, keypoint] == 0 or not (0 <= x < w and 0 <= y < h):
            continue
        if not unbiased:
            u, v = x, y
        columns = np.arange(max(0, x - reach), min(w, x + reach + 1))
        rows = np.arange(max(0, y - reach), min(h, y + reach + 1))
        gaussian = np.exp(-((columns[None] - u) ** 2 + (rows[:, None] - v) ** 2) / (2 * sigma**2))
        part = maps[image, keypoint, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.maximum(part, gaussian, out=part)
    return maps


def tag_index(keypoints, visibility, size, *, truncate=False):
    """Return ``y * w + x`` of every keypoint (b p k), -1 where it is absent or off the map."""
    h, w = size
    index = np.full(visibility.shape, -1, dtype=np.int64)
    for one in np.ndindex(visibility.shape):
        x, y = centre_pixel(*keypoints[one].tolist(), truncate=truncate)
        if visibility[one] > 0 and 0 <= x < w and 0 <= y < h:
            index[one] = y * w + x
    return index


def perfect_maps(keypoints, present, size, sigma=2.0):
    """Return heatmaps (k h w) without any patch's border, and tags (k h w 1): 2 per person number.

    Args:
        keypoints: of people (p k 2), in continuous map coordinates.
        present: (p k).
        size: (h, w) of the map.
        sigma: of the Gaussians, in pixels.
    """
    h, w = size
    y, x = np.mgrid[:h, :w] + 0.5
    heat, tags = np.zeros((keypoints.shape[1], h, w)), np.zeros((keypoints.shape[1], h, w, 1))
    for person, keypoint in zip(*np.nonzero(present), strict=True):
        u, v = keypoints[person, keypoint]
        gaussian = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
        tags[keypoint, gaussian > heat[keypoint]] = 2.0 * person
        heat[keypoint] = np.maximum(heat[keypoint], gaussian)
    return heat.astype(np.float32), tags.astype(np.float32)
