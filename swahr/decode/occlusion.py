"""Which keypoints are hidden, from occlusion maps."""

import numpy as np
import torch
from jaxtyping import Float64

from swahr.structures import Groups, ImageMaps

_SMALLEST_HEAT = 1e-6  # below it, nothing was seen


def occluded_share(groups: Groups, maps: ImageMaps) -> Float64[np.ndarray, "p k"] | None:
    """Return each keypoint's share of heat, at its pixel, that is of hidden keypoints, from 0 to 1."""
    if maps.occlusion is None:
        return None
    person, keypoint = np.nonzero(groups.present)
    size = np.array(maps.heatmaps.shape[:0:-1])  # width and height
    cell = np.clip(np.floor(groups.positions[person, keypoint]), 0, size - 1).astype(np.int64)
    index = tuple(torch.from_numpy(part).to(maps.heatmaps.device) for part in (keypoint, *cell.T[::-1]))
    share = maps.occlusion[index] / maps.heatmaps[index].clamp(min=_SMALLEST_HEAT)
    occluded = np.zeros(groups.present.shape)
    occluded[person, keypoint] = share.clamp(0, 1).cpu().double().numpy()
    return occluded
