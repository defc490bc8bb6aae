"""Fill in keypoints that grouping did not find, where the maps still say something of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from swahr.decode.subpixel import quarter_offset
from swahr.decode.tiles import SIDE, TiledMaps
from swahr.structures import Groups

_SEEDS = 512  # tiles of a map in which a tag is looked for first
_STEP = 64  # tiles that are counted together
_CHUNK = 1 << 15  # numbers worked on at once: they stay in a CPU's caches


class KeypointRecovery:
    """Give each missing keypoint the place that is hot and tagged like its person.

    The place is the maximum of ``heat - round(|tag - mean tag|)`` over the whole map, the first in reading
    order if there are several, accepted where heat is above the threshold; it gets the quarter offset and
    its heat as score (HigherHRNet's and SWAHR's test-time refinement). With ``threshold`` 0 nearly every pose
    becomes complete.

    No map is searched whole: a map's hottest tiles tell what can be reached, and most tiles cannot hold the
    place, by their greatest heat and the range of their tags. What that excludes is exact, ties and rounding
    included.

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
    """For each wanted tag the best (keypoint, y, x)."""
    maps = TiledMaps.of(heatmaps, tags)
    keypoints, plane = torch.unique(keypoint, return_inverse=True)
    place = _Search.of(maps, keypoints, plane, wanted).best_places()
    return torch.stack([keypoint, place.div(maps.width, rounding_mode="floor"), place % maps.width], dim=1)


@dataclass(frozen=True, eq=False)
class _Search:
    """A search for ``n`` tags on ``p`` maps of ``s`` tiles.

    Attributes:
        maps: all maps.
        keypoints: which of them are searched.
        plane: for each query the map, of ``keypoints``, on which it is searched.
        tag: what is looked for.
        tile: the tiles of each map, hottest first.
        heat: the greatest heat of each.
        reached: the best value known so far for each query.
        known: a place known to have it.
    """

    maps: TiledMaps
    keypoints: Int64[Tensor, " p"]
    plane: Int64[Tensor, " n"]
    tag: Float[Tensor, "n t"]
    tile: Int64[Tensor, "p s"]
    heat: Float[Tensor, "p s"]
    reached: Float[Tensor, " n"]
    known: Int64[Tensor, " n"]

    @classmethod
    def of(
        cls,
        maps: TiledMaps,
        keypoints: Int64[Tensor, " p"],
        plane: Int64[Tensor, " n"],
        tag: Float[Tensor, "n t"],
    ) -> _Search:
        """A search for which the hottest pixels of the hottest tiles have been tried."""
        heat, tile = maps.hottest(keypoints).sort(dim=1, descending=True)
        tags, place = maps.hottest_pixels(keypoints, tile[:, :_SEEDS])
        reached, known = torch.empty_like(tag[:, 0]), torch.empty_like(plane)
        for part in _chunks([place.shape[1]] * len(plane), plane.device):
            own = plane[part]
            away = _differences([seen.index_select(0, own) for seen in tags], tag[part])
            value = heat[:, :_SEEDS].index_select(0, own).sub_(_rounded_length(away))
            reached[part], best = value.max(dim=1)
            known[part] = place[own, best]
        return cls(maps, keypoints, plane, tag, tile, heat, reached, known)

    def best_places(self) -> Int64[Tensor, " n"]:
        """The first place of the best value for each query."""
        query, tile = self._candidates()
        number = torch.arange(SIDE**2, dtype=torch.int32, device=query.device)
        values, places = [], []
        for part in _chunks([SIDE**2] * len(query), query.device):
            heat, tags = self.maps.pixels(self.keypoints[self.plane[query[part]]], tile[part])
            value = heat.sub_(_rounded_length(_differences(tags.unbind(2), self.tag[query[part]])))
            best = value.amax(dim=1)
            pixel = torch.where(value == best[:, None], number, SIDE**2 - 1).amin(dim=1)
            values.append(best)
            places.append(self.maps.first(tile[part]) + self.maps.steps()[pixel])
        value, place = torch.cat(values), torch.cat(places)
        reached = self.reached.scatter_reduce(0, query, value, "amax")
        best_only = value == reached[query]
        return self.known.scatter_reduce(0, query[best_only], place[best_only], "amin", include_self=False)

    def _candidates(self) -> tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]:
        """Every (query, tile) such that the tile may hold the first best place."""
        steps = self.heat[:, ::_STEP].contiguous().index_select(0, self.plane)
        width = (steps >= self.reached[:, None]).sum(dim=1) * _STEP  # as many tiles of the map are hot enough
        widest = torch.zeros_like(self.keypoints).scatter_reduce(0, self.plane, width, "amax")
        found: list[tuple[Tensor, Tensor]] = []
        for planes in (widest <= _SEEDS, widest > _SEEDS):
            query = planes[self.plane].nonzero()[:, 0]
            if len(query):
                query = query[width[query].argsort(descending=True)]
                found += self._candidates_on(planes.nonzero()[:, 0], query, width[query].tolist())
        queries, tiles = map(torch.cat, zip(*found, strict=True))
        return queries, tiles

    def _candidates_on(
        self, planes: Int64[Tensor, " q"], query: Int64[Tensor, " m"], widths: list[int]
    ) -> Iterator[tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]]:
        """The same for the queries on some of the maps, whose widths fall."""
        tile = self.tile[planes, : widths[0]]
        ranges = self.maps.tag_ranges(self.keypoints[planes], tile)
        for part in _chunks(widths, query.device):
            own, width = query[part], widths[part.start]
            place = torch.searchsorted(planes, self.plane[own])
            low, high = ([edge[:, :width].index_select(0, place) for edge in edges] for edges in ranges)
            row, column = self._hopeful(own, low, high)
            yield own[row], tile[place[row], column]

    def _hopeful(
        self,
        query: Int64[Tensor, " m"],
        low: Sequence[Float[Tensor, "m s2"]],
        high: Sequence[Float[Tensor, "m s2"]],
    ) -> tuple[Int64[Tensor, " c"], Int64[Tensor, " c"]]:
        """The same, as (row of ``query``, column), among the hottest tiles, whose tags' ranges are given.

        Rounding, of tags' differences as of their distance, is monotonic, so that the bounds hold to the bit.
        """
        plane, tag = self.plane[query], self.tag[query]
        below, above = _differences(low, tag), _differences(high, tag)
        nearest = [torch.maximum(a, -b).clamp_(min=0) for a, b in zip(below, above, strict=True)]
        farthest = [torch.maximum(a.neg_(), b) for a, b in zip(below, above, strict=True)]
        width = low[0].shape[1]
        heat = self.heat[:, :width].index_select(0, plane)
        upper, lower = heat - _rounded_length(nearest), heat.sub_(_rounded_length(farthest))
        certain, best = lower.max(dim=1)
        # Somewhere in its tile: no later than the last pixel.
        last = self.maps.first(self.tile[plane, best]) + self.maps.steps()[-1]
        known = torch.where(certain > self.reached[query], last, self.known[query])
        reached = torch.maximum(certain, self.reached[query])
        row, column = (upper >= reached[:, None]).nonzero(as_tuple=True)
        # A tile that can only equal what is reached matters if it begins before a place that is known.
        begins = self.maps.first(self.tile[plane[row], column])
        needed = (upper[row, column] > reached[row]) | (begins <= known[row])
        return row[needed], column[needed]


def _differences(tags: Sequence[Float[Tensor, "n c"]], own: Float[Tensor, "n t"]) -> list[Tensor]:
    """Tags less each row's own, by component."""
    return [seen - one[:, None] for seen, one in zip(tags, own.mT, strict=True)]


def _chunks(widths: Sequence[int], device: torch.device) -> Iterator[slice]:
    """Parts of rows whose widths do not grow, each as much as suits the device."""
    chunk = _CHUNK if device.type == "cpu" else _CHUNK << 6
    start = 0
    while start < len(widths):
        part = slice(start, start + max(1, chunk // max(1, widths[start])))
        yield part
        start = part.stop


def _rounded_length(components: Sequence[Float[Tensor, "*c"]]) -> Float[Tensor, "*c"]:
    """Of vectors, given as their components, which are overwritten."""
    length, *others = [part.square_() for part in components]
    for other in others:
        length += other
    return length.sqrt_().round_()
