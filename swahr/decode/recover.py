"""Recovery: fills in keypoints that grouping did not find, from heatmaps and tag maps."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from swahr import kernels
from swahr.decode.subpixel import quarter_offset
from swahr.structures import Groups, ImageMaps

Heatmaps = Float[Tensor, "k h w"]
Tags = Float[Tensor, "k h w t"]
Keypoint = Int64[Tensor, " n"]
Wanted = Float[Tensor, "n t"]

_AT_ONCE = 1 << 25  # pixels that `best_of_all` processes at once: about 1 GB


class KeypointRecovery:
    """Fills in each missing keypoint at the pixel of high heat whose tag is near the person's mean tag.

    This is the pixel with the maximum of ``heat - round(|tag - mean tag|)`` over the whole map, the first of
    several in reading order. The keypoint gets the quarter offset, and the heat as its score (as in the
    test-time refinement of HigherHRNet and SWAHR). It is filled in only if its heat is above ``threshold``;
    with 0 nearly every pose becomes complete.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def __call__(self, groups: Groups, maps: ImageMaps) -> Groups:
        """Return the groups of one image with missing keypoints filled in. Frame: map.

        Raises:
            ValueError: there are no tags, or the shapes of groups and maps do not match.
        """
        heatmaps, tags = _checked(groups, maps)
        person, keypoint = np.nonzero(~groups.present)
        if not len(person):
            return groups
        wanted = torch.from_numpy(groups.tag[person]).to(tags)
        # The best pixel (n 3) of each of the n missing keypoints, with its heat (n) and centre (n 2).
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


def _checked(groups: Groups, maps: ImageMaps) -> tuple[Heatmaps, Tags]:
    """Return heatmaps and tags after a check of their shapes: the compiled search has no bounds checks."""
    heatmaps, tags = maps.heatmaps, maps.fields.get("tags")
    k, t = groups.present.shape[1], groups.tag.shape[1]
    if tags is None or tags.shape != (k, *heatmaps.shape[1:], t) or len(heatmaps) != k or not tags.numel():
        found = None if tags is None else tuple(tags.shape)
        raise ValueError(
            f"expected heatmaps (k h w) and tags (k h w t) with {k = } and {t = } as in the groups, got "
            f"{tuple(heatmaps.shape)} and {found}; pass the maps that the groups were found on"
        )
    return heatmaps, tags


def _best_pixels(heatmaps: Heatmaps, tags: Tags, keypoint: Keypoint, wanted: Wanted) -> Int64[Tensor, "n 3"]:
    """Return the best (keypoint, y, x) for each wanted tag: the first with the maximum value."""
    if kernels.accept(heatmaps, tags):
        from swahr.kernels.recovery import best_pixels  # takes a second to import

        arrays = (part.detach().contiguous().numpy() for part in (heatmaps, tags, keypoint, wanted))
        pixel = torch.from_numpy(best_pixels(*arrays))
    else:
        pixel = best_of_all(heatmaps, tags, keypoint, wanted)
    width = heatmaps.shape[2]
    return torch.stack([keypoint, pixel.div(width, rounding_mode="floor"), pixel % width], dim=1)


def best_of_all(heatmaps: Heatmaps, tags: Tags, keypoint: Keypoint, wanted: Wanted) -> Int64[Tensor, " n"]:
    """Brute-force version of `swahr.kernels.recovery.best_pixels` in tensor operations."""
    pixels = []
    together = max(1, _AT_ONCE // max(1, heatmaps[0].numel()))
    for maps, own in zip(torch.split(keypoint, together), torch.split(wanted, together), strict=True):
        squared = torch.zeros_like(heatmaps[maps])
        for component in range(tags.shape[-1]):
            squared += (tags[..., component][maps] - own[:, component, None, None]).square_()
        value = heatmaps[maps] - squared.sqrt_().round_()
        pixels.append(value.flatten(1).argmax(dim=1))
    return torch.cat(pixels)
