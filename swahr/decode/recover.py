"""Fill in keypoints that grouping did not find, where the maps still say something of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from swahr.decode.subpixel import quarter_offset
from swahr.structures import Groups

_SIDES = (64, 8, 1)  # of the tiles that are searched or passed over as a whole, in map pixels
_CHUNK_TILES = 1 << 14  # coarsest tiles searched at once: what is made of them stays in caches


class KeypointRecovery:
    """Give each missing keypoint the place that is hot and tagged like its person.

    The place is the maximum of ``heat - round(|tag - mean tag|)`` over the whole map, the first in reading
    order if there are several, accepted where heat is above the threshold; it gets the quarter offset and
    its heat as score (HigherHRNet's and SWAHR's test-time refinement). With ``threshold`` 0 nearly every pose
    becomes complete.

    No map is searched whole: most tiles of it cannot hold the place, by their greatest heat and the range of
    their tags. What they exclude is exact, ties and rounding included.

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


class _Level(NamedTuple):
    """Maps in square tiles. At side 1 they are the maps.

    Of each tile: its greatest heat, the range of its tags, and the heat and tags of its first pixel.
    """

    side: int
    hottest: Float[Tensor, "k h2 w2"]
    lowest: Float[Tensor, "k h2 w2 t"]
    highest: Float[Tensor, "k h2 w2 t"]
    heat: Float[Tensor, "k h2 w2"]
    tags: Float[Tensor, "k h2 w2 t"]


class _Tiles(NamedTuple):
    """Some tiles of a level, each searched for one of the wanted tags, and what bounds the values in them."""

    query: Int64[Tensor, " c"]
    y: Int64[Tensor, " c"]
    x: Int64[Tensor, " c"]
    lower: Float[Tensor, " c"]
    upper: Float[Tensor, " c"]

    def only(self, chosen: Bool[Tensor, " c"]) -> _Tiles:
        index = chosen.nonzero()[:, 0]
        return _Tiles(*(part.index_select(0, index) for part in self))


def _best_places(
    heatmaps: Float[Tensor, "k h w"],
    tags: Float[Tensor, "k h w t"],
    keypoint: Int64[Tensor, " n"],
    wanted: Float[Tensor, "n t"],
) -> Int64[Tensor, "n 3"]:
    """For each wanted tag the best (keypoint, y, x)."""
    levels = _pyramid(heatmaps, tags)
    chunk = max(1, _CHUNK_TILES // levels[0].hottest[0].numel())
    parts = zip(torch.split(keypoint, chunk), torch.split(wanted, chunk), strict=True)
    return torch.cat([_search(levels, *part) for part in parts])


def _pyramid(heatmaps: Float[Tensor, "k h w"], tags: Float[Tensor, "k h w t"]) -> list[_Level]:
    """Levels of the sides `_SIDES`, coarse to fine."""
    levels = [_Level(1, heatmaps, tags, tags, heatmaps, tags)]
    for side in _SIDES[-2::-1]:
        finer = levels[0]
        factor = side // finer.side
        level = _Level(
            side=side,
            hottest=_reduce_tiles(finer.hottest, factor, torch.amax),
            lowest=_reduce_tiles(finer.lowest, factor, torch.amin),
            highest=_reduce_tiles(finer.highest, factor, torch.amax),
            heat=finer.heat[:, ::factor, ::factor].contiguous(),
            tags=finer.tags[:, ::factor, ::factor].contiguous(),
        )
        levels.insert(0, level)
    return levels


def _search(
    levels: list[_Level], keypoint: Int64[Tensor, " n"], wanted: Float[Tensor, "n t"]
) -> Int64[Tensor, "n 3"]:
    """Branch and bound: at each level, divide the tiles that may hold the first best place."""
    query = torch.arange(len(keypoint), device=keypoint.device)
    zero = torch.zeros_like(query)
    tiles = _Tiles(query, zero, zero, wanted[:, 0], wanted[:, 0])
    reached = torch.full_like(wanted[:, 0], -torch.inf)
    factor = levels[0].hottest.shape[1:]
    for level, finer in zip(levels, [*levels[1:], None], strict=True):
        tiles, reached = _divide(tiles, reached, level, factor, keypoint, wanted)
        tiles = _first(tiles, reached, level.side, levels[-1].hottest.shape[1:])
        if finer is not None:
            factor = torch.Size([level.side // finer.side] * 2)
    y, x = zero.clone(), zero.clone()
    y[tiles.query], x[tiles.query] = tiles.y, tiles.x
    return torch.stack([keypoint, y, x], dim=1)


def _divide(
    tiles: _Tiles,
    reached: Float[Tensor, " n"],
    level: _Level,
    factor: torch.Size,
    keypoint: Int64[Tensor, " n"],
    wanted: Float[Tensor, "n t"],
) -> tuple[_Tiles, Float[Tensor, " n"]]:
    """The tiles of a level, ``factor`` (h, w) of the coarser each, that may hold a best value."""
    _, h, w = level.hottest.shape
    step_y, step_x = (torch.arange(length, device=keypoint.device) for length in factor)
    y = (tiles.y[:, None] * factor[0] + step_y)[:, :, None]
    x = (tiles.x[:, None] * factor[1] + step_x)[:, None, :]
    index = (keypoint[tiles.query][:, None, None] * h + y.clamp(max=h - 1)) * w + x.clamp(max=w - 1)
    lower, upper = _bounds(level, index, wanted[tiles.query])
    if h % factor[0] or w % factor[1]:
        upper = upper.masked_fill((y >= h) | (x >= w), -torch.inf)
    reached = reached.scatter_reduce(0, tiles.query, lower.amax(dim=(1, 2)), "amax")
    parent, row, column = (upper >= reached[tiles.query][:, None, None]).nonzero(as_tuple=True)
    found = _Tiles(
        query=tiles.query[parent],
        y=tiles.y[parent] * factor[0] + row,
        x=tiles.x[parent] * factor[1] + column,
        lower=lower[parent, row, column],
        upper=upper[parent, row, column],
    )
    return found, reached


def _first(tiles: _Tiles, reached: Float[Tensor, " n"], side: int, size: torch.Size) -> _Tiles:
    """Without the tiles that can at most equal the best value, and at a later place than another tile."""
    h, w = size
    first = tiles.y * side * w + tiles.x * side
    last = (tiles.y * side + side - 1).clamp(max=h - 1) * w + (tiles.x * side + side - 1).clamp(max=w - 1)
    best = reached[tiles.query]
    certain = tiles.lower == best
    limit = torch.full(reached.shape, h * w, device=reached.device)
    limit = limit.scatter_reduce(0, tiles.query[certain], last[certain], "amin")
    return tiles.only((tiles.upper > best) | (first <= limit[tiles.query]))


def _bounds(
    level: _Level, index: Int64[Tensor, "c i j"], wanted: Float[Tensor, "c t"]
) -> tuple[Float[Tensor, "c i j"], Float[Tensor, "c i j"]]:
    """What the greatest value in each tile reaches for certain, and what it does not exceed.

    Rounding, of tags' differences as of their distance, is monotonic, so that both hold to the last bit.
    """
    tag = wanted[:, None, None]

    def read(maps: Float[Tensor, "k h w *t"]) -> Float[Tensor, "c i j *t"]:
        values = maps.reshape(-1, *maps.shape[3:]).index_select(0, index.flatten())
        return values.view(*index.shape, *maps.shape[3:])

    value = read(level.heat) - _rounded_length(read(level.tags) - tag)
    if level.side == 1:
        return value, value
    below, above = read(level.lowest) - tag, read(level.highest) - tag
    nearest = torch.maximum(below, -above).clamp_(min=0)
    farthest = torch.maximum(above, -below)
    hottest = read(level.hottest)
    lower = torch.maximum(value, hottest - _rounded_length(farthest))
    return lower, hottest - _rounded_length(nearest)


def _reduce_tiles(
    maps: Float[Tensor, "k h w *t"], side: int, reduce: Callable[[Tensor, int], Tensor]
) -> Float[Tensor, "k h2 w2 *t"]:
    """``reduce`` over square tiles; those at the right and at the bottom may be smaller."""
    for dim in (1, 2):
        count, rest = divmod(maps.shape[dim], side)
        whole = maps.narrow(dim, 0, count * side).view(*maps.shape[:dim], count, side, *maps.shape[dim + 1 :])
        parts = [reduce(whole, dim + 1)]
        if rest:
            parts.append(reduce(maps.narrow(dim, count * side, rest), dim).unsqueeze(dim))
        maps = torch.cat(parts, dim) if rest else parts[0]
    return maps


def _rounded_length(vectors: Float[Tensor, "*c t"]) -> Float[Tensor, "*c"]:
    first, *others = vectors.square_().unbind(-1)
    return sum(others, start=first).sqrt().round_()
