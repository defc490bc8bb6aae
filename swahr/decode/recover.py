"""Fill in keypoints that grouping did not find, where the maps still say something of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from swahr.decode.subpixel import quarter_offset
from swahr.structures import Groups

_CHUNK_ELEMENTS = 1 << 20  # map values handled at once: 4 MiB, which caches hold


class KeypointRecovery:
    """Give each missing keypoint the place that is hot and tagged like its person.

    The place is the maximum of ``heat - round(|tag - mean tag|)`` over the whole map, accepted where heat is
    above the threshold; it gets the quarter offset and its heat as score (HigherHRNet's and SWAHR's test-time
    refinement). With ``threshold`` 0 nearly every pose becomes complete.

    Args:
        enabled: False leaves missing keypoints missing.
        threshold: a keypoint is filled in only where heat is above this.
    """

    def __init__(self, enabled: bool = True, threshold: float = 0.0) -> None:
        self.enabled = enabled
        self.threshold = threshold

    def __call__(
        self, groups: Groups, heatmaps: Float[Tensor, "k h w"], tags: Float[Tensor, "k h w t"]
    ) -> Groups:
        """Return the groups with missing keypoints filled in. Frame: map."""
        person, keypoint = np.nonzero(~groups.present)
        if not self.enabled or not len(person):
            return groups
        wanted = torch.from_numpy(groups.tag[person]).to(tags.dtype).to(tags.device)
        index = _best_places(heatmaps, tags, torch.from_numpy(keypoint).to(heatmaps.device), wanted)
        heat = heatmaps[tuple(index.unbind(1))]
        centre = index[:, [2, 1]].to(heat.dtype) + 0.5
        found = (heat > self.threshold).cpu().numpy()
        filled = (person[found], keypoint[found])
        positions, scores, present = groups.positions.copy(), groups.scores.copy(), groups.present.copy()
        positions[filled] = (centre + quarter_offset(heatmaps, index)).cpu().double().numpy()[found]
        scores[filled] = heat.cpu().double().numpy()[found]
        present[filled] = True
        return replace(groups, positions=positions, scores=scores, present=present)


def _best_places(
    heatmaps: Float[Tensor, "k h w"],
    tags: Float[Tensor, "k h w t"],
    keypoint: Int64[Tensor, " n"],
    wanted: Float[Tensor, "n t"],
) -> Int64[Tensor, "n 3"]:
    """For each wanted tag the best (keypoint, y, x), a bounded number of maps at a time."""
    width = heatmaps.shape[2]
    chunk = max(1, _CHUNK_ELEMENTS // heatmaps[0].numel())
    planes = tags.movedim(3, 0).contiguous()
    best = []
    for start in range(0, len(keypoint), chunk):
        types, means = keypoint[start : start + chunk], wanted[start : start + chunk]
        squared = torch.zeros_like(heatmaps[types])
        for plane, mean in zip(planes, means.T, strict=True):
            squared += (plane[types] - mean[:, None, None]).square_()
        best.append((heatmaps[types] - squared.sqrt_().round_()).flatten(1).argmax(dim=1))
    place = torch.cat(best)
    return torch.stack([keypoint, place.div(width, rounding_mode="floor"), place % width], dim=1)
