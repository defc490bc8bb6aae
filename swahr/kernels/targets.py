"""CPU kernels of `swahr.targets`: draw Gaussian patches, and shrink masks."""

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numba import prange

from swahr.kernels.compiled import compiled

Pixels = Int64[np.ndarray, "b p k 2"]
Present = Bool[np.ndarray, "b p k"]
Patches = Float32[np.ndarray, "#b #p #k r r"]
Heatmaps = Float32[np.ndarray, "b k h w"]
Index = Int64[np.ndarray, "b p k"]


def draw(pixels: Pixels, present: Present, patches: Patches, size: tuple[int, int]) -> tuple[Heatmaps, Index]:
    """Return heatmaps of ``size`` (h, w) and the flat index of each keypoint.

    Heatmaps are the maximum of the patches of all ``present`` keypoints, centred at ``pixels`` (x, y), and 0
    elsewhere; ``patches`` holds one per keypoint, or one for all. An index is ``y * w + x``, or -1 where the
    keypoint is absent or off the map.
    """
    heatmaps = np.empty((len(pixels), pixels.shape[2], *size), np.float32)
    index = np.empty(present.shape, np.int64)
    _draw(heatmaps, index, pixels, present, patches)
    return heatmaps, index


def shrink(valid: Bool[np.ndarray, "b H W"], size: tuple[int, int]) -> Bool[np.ndarray, "b h w"]:
    """Return the mask of a map of ``size`` (h, w), valid where at least half of the input pixels are."""
    mask = np.empty((len(valid), *size), np.bool_)
    _shrink(mask, valid)
    return mask


@compiled(parallel=True)
def _draw(heatmaps: Heatmaps, index: Index, pixels: Pixels, present: Present, patches: Patches) -> None:
    """Fill ``heatmaps`` and ``index``; each core draws one map at a time."""
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
            # The part of the patch that lies on the map, row by row.
            patch = patches[image % len(patches), person % patches.shape[1], keypoint % patches.shape[2]]
            left, right = max(0, x - radius), min(width, x + radius + 1)
            for row in range(max(0, y - radius), min(height, y + radius + 1)):
                heat = heatmap[row, left:right]
                drawn = patch[row - y + radius, left - x + radius :]
                for i in range(len(heat)):
                    heat[i] = drawn[i] if drawn[i] > heat[i] else heat[i]


@compiled(parallel=True)
def _shrink(mask: Bool[np.ndarray, "b h w"], valid: Bool[np.ndarray, "b H W"]) -> None:
    """Fill ``mask``; each core fills one row at a time."""
    images, height, width = mask.shape
    stride = valid.shape[1] // height
    half = (stride**2 + 1) // 2
    for line in prange(images * height):
        image, row = line // height, line % height
        # Count the valid pixels per input column, then per map pixel.
        columns = np.zeros(valid.shape[2], np.uint16)
        for y in range(row * stride, (row + 1) * stride):
            columns += valid[image, y]
        for i in range(width):
            count = 0
            for x in range(i * stride, (i + 1) * stride):
                count += columns[x]
            mask[image, row, i] = count >= half
