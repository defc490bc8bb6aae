"""The loops over pixels that draw targets on a CPU."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numba import prange

from swahr.compiled import compiled


@compiled(parallel=True)
def draw(
    heatmaps: Float32[np.ndarray, "b k h w"],
    index: Int64[np.ndarray, "b p k"],
    pixels: Int64[np.ndarray, "b p k 2"],
    present: Bool[np.ndarray, "b p k"],
    patches: Float32[np.ndarray, "#b #p #k r r"],
) -> None:
    """Write heatmaps: the greatest of the people's patches, 0 where there is none; and what they stand on.

    Args:
        heatmaps: are overwritten.
        index: is overwritten by ``y * w + x``, -1 where a keypoint is absent or off the map.
        pixels: the patches' middles (x, y).
        present: whether there is such a keypoint.
        patches: one for every keypoint, or one for all.
    """
    images, num_keypoints, height, width = heatmaps.shape
    radius = patches.shape[-1] // 2
    for plane in prange(images * num_keypoints):
        image, keypoint = plane // num_keypoints, plane % num_keypoints
        heatmap = heatmaps[image, keypoint]
        heatmap[:] = 0
        for person in range(pixels.shape[1]):
            x, y = pixels[image, person, keypoint]
            if not (present[image, person, keypoint] and 0 <= x < width and 0 <= y < height):
                index[image, person, keypoint] = -1
                continue
            index[image, person, keypoint] = y * width + x
            patch = patches[image % len(patches), person % patches.shape[1], keypoint % patches.shape[2]]
            left, right = max(0, x - radius), min(width, x + radius + 1)
            for row in range(max(0, y - radius), min(height, y + radius + 1)):
                heat = heatmap[row, left:right]
                drawn = patch[row - y + radius, left - x + radius :]
                for i in range(len(heat)):
                    heat[i] = drawn[i] if drawn[i] > heat[i] else heat[i]


@compiled(parallel=True)
def shrink(mask: Bool[np.ndarray, "b h w"], valid: Bool[np.ndarray, "b H W"]) -> None:
    """Write the mask of a map: a pixel is valid when at least half of its input pixels are."""
    images, height, width = mask.shape
    stride = valid.shape[1] // height
    half = (stride**2 + 1) // 2
    for line in prange(images * height):
        image, row = line // height, line % height
        columns = np.zeros(valid.shape[2], np.uint16)
        for y in range(row * stride, (row + 1) * stride):
            columns += valid[image, y]
        for i in range(width):
            count = 0
            for x in range(i * stride, (i + 1) * stride):
                count += columns[x]
            mask[image, row, i] = count >= half
