"""Fill in keypoints that grouping did not find, where the maps still say something of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from swahr.decode.search import best_places
from swahr.decode.subpixel import quarter_offset
from swahr.structures import Groups

_AT_ONCE = 1 << 25
"""Pixels that are compared with wanted tags at once where each is looked at: about 1 GB."""


class KeypointRecovery:
    """Give each missing keypoint the place that is hot and tagged like its person.

    The place is the maximum of ``heat - round(|tag - mean tag|)`` over the whole map, the first in reading
    order if there are several, accepted where heat is above the threshold; it gets the quarter offset and
    its heat as score (HigherHRNet's and SWAHR's test-time refinement). With ``threshold`` 0 nearly every pose
    becomes complete.

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
        """Return the groups with missing keypoints filled in. Frame: map.

        Raises:
            ValueError: groups, heatmaps and tags do not belong together.
        """
        _check(groups, heatmaps, tags)
        person, keypoint = np.nonzero(~groups.present)
        if not self.enabled or not len(person):
            return groups
        wanted = torch.from_numpy(groups.tag[person]).to(tags)
        index = _best_pixels(heatmaps, tags, torch.from_numpy(keypoint).to(heatmaps.device), wanted)
        heat = heatmaps[tuple(index.unbind(1))]
        centre = index[:, [2, 1]].to(heat.dtype) + 0.5
        found = (heat > self.threshold).cpu().numpy()
        filled = (person[found], keypoint[found])
        positions, scores, present = groups.positions.copy(), groups.scores.copy(), groups.present.copy()
        positions[filled] = (centre + quarter_offset(heatmaps, index)).cpu().double().numpy()[found]
        scores[filled] = heat.cpu().double().numpy()[found]
        present[filled] = True
        return replace(groups, positions=positions, scores=scores, present=present)


def _check(groups: Groups, heatmaps: Float[Tensor, "k h w"], tags: Float[Tensor, "k2 h2 w2 t"]) -> None:
    """The search checks no index."""
    keypoints, dimensions = groups.present.shape[1], groups.tag.shape[1]
    if len(heatmaps) != keypoints or tags.shape != (*heatmaps.shape, dimensions) or not heatmaps[0].numel():
        raise ValueError(
            f"expected heatmaps (k h w) and tags (k h w t) of k = {keypoints} keypoints and t = {dimensions} "
            f"tag components, as the groups have, got {tuple(heatmaps.shape)} and {tuple(tags.shape)}; pass "
            "the maps that the groups were found on"
        )


def _best_pixels(
    heatmaps: Float[Tensor, "k h w"],
    tags: Float[Tensor, "k h w t"],
    keypoint: Int64[Tensor, " n"],
    wanted: Float[Tensor, "n t"],
) -> Int64[Tensor, "n 3"]:
    """For each wanted tag the best (keypoint, y, x): the first with the greatest value."""
    if heatmaps.device.type == "cpu" and heatmaps.dtype == tags.dtype == torch.float32:
        arrays = (part.detach().contiguous().numpy() for part in (heatmaps, tags, keypoint, wanted))
        place = torch.from_numpy(best_places(*arrays))
    else:
        place = best_of_all(heatmaps, tags, keypoint, wanted)
    width = heatmaps.shape[2]
    return torch.stack([keypoint, place.div(width, rounding_mode="floor"), place % width], dim=1)


def best_of_all(
    heatmaps: Float[Tensor, "k h w"],
    tags: Float[Tensor, "k h w t"],
    keypoint: Int64[Tensor, " n"],
    wanted: Float[Tensor, "n t"],
) -> Int64[Tensor, " n"]:
    """The same, as pixel ``y * w + x``, by looking at every pixel for every tag."""
    places = []
    together = max(1, _AT_ONCE // max(1, heatmaps[0].numel()))
    for maps, own in zip(torch.split(keypoint, together), torch.split(wanted, together), strict=True):
        squared = torch.zeros_like(heatmaps[maps])
        for component in range(tags.shape[-1]):
            squared += (tags[..., component][maps] - own[:, component, None, None]).square_()
        value = heatmaps[maps] - squared.sqrt_().round_()
        places.append(value.flatten(1).argmax(dim=1))
    return torch.cat(places)
