"""CPU kernel of `swahr.decode.recover`: the best pixel for each missing keypoint.

Exact branch and bound: tiles of a map are visited in order of their maximum heat, until no remaining tile can
beat the best pixel so far. A tile is skipped if its maximum heat minus the distance to its range of tags
cannot beat that pixel. As rounding is monotonic, the bounds hold to the bit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from numba import prange

from swahr.kernels.compiled import compiled

_SIDE = 8  # side of a tile in pixels
_AREA = _SIDE**2
_BLOCK = 64  # tiles whose bounds are computed together
_LEVELS = 1024  # levels of heat, by which tiles are sorted

Heatmaps = Float32[np.ndarray, "k h w"]
Tags = Float32[np.ndarray, "k h w t"]
Wanted = Float32[np.ndarray, "n t"]
Found = Int64[np.ndarray, " n"]
Heat = Float32[np.ndarray, "h w"]
Tag = Float32[np.ndarray, " t"]


class _Tiles(NamedTuple):
    """The ``s`` tiles of a map, hottest first. Tag ranges and copies of pixels are filled in when needed."""

    corner: Int64[np.ndarray, "s 2"]  # (y, x) of each tile's first pixel
    hottest: Float32[np.ndarray, " s"]  # maximum heat of each tile
    bound: Float32[np.ndarray, " s"]  # maximum heat of a tile and all after it
    low: Float32[np.ndarray, "t s"]  # minimum of the tags in each tile, per component
    high: Float32[np.ndarray, "t s"]  # maximum of the tags in each tile, per component
    slot: Int64[np.ndarray, " s"]  # index of a tile's copy in `heat` and `tags`, -1 before it is copied
    heat: Float32[np.ndarray, "s 64"]  # copied heat
    tags: Float32[np.ndarray, "s t 64"]  # copied tags, component by component


def best_pixels(heatmaps: Heatmaps, tags: Tags, keypoint: Int64[np.ndarray, " n"], wanted: Wanted) -> Found:
    """Return the first pixel ``y * w + x`` with the maximum of heat - round(|tag - wanted|), per query.

    Each of ``n`` queries is a wanted tag and the ``keypoint`` whose maps are searched.
    """
    # Queries of one map are searched together, as they share its tiles.
    order = np.argsort(keypoint, kind="stable")
    starts = np.searchsorted(keypoint[order], np.arange(len(heatmaps) + 1))
    found = np.empty_like(order)
    _search_maps(heatmaps, tags, starts, wanted[order], found)
    pixels = np.empty_like(found)
    pixels[order] = found
    return pixels


@compiled(parallel=True)
def _search_maps(
    heatmaps: Heatmaps, tags: Tags, starts: Int64[np.ndarray, " k+1"], wanted: Wanted, found: Found
) -> None:
    """Fill ``found``; the queries of map k are ``starts[k]`` to ``starts[k + 1]``."""
    for k in prange(len(heatmaps)):
        if starts[k] < starts[k + 1]:
            own = slice(starts[k], starts[k + 1])
            _search_map(heatmaps[k], tags[k], wanted[own], found[own])


@compiled()
def _search_map(heat: Heat, tags: Float32[np.ndarray, "h w t"], wanted: Wanted, found: Found) -> None:
    """Fill ``found`` with the best pixel of one map for each query."""
    h, w = heat.shape
    tiles = _sorted_tiles(heat, tags.shape[2])
    count, ranged, copied = len(tiles.hottest), 0, 0  # all tiles, those with a tag range, those copied
    tag_rows, row_range = tags.reshape(h, -1), np.empty((2, _SIDE * tags.shape[2]), np.float32)
    reachable, value = np.empty(_BLOCK, np.float32), np.empty(_AREA, np.float32)
    for query in range(len(wanted)):
        best, best_pixel, start = np.float32(-np.inf), h * w, 0
        # Visit tiles in blocks, until no remaining tile is hot enough.
        while start < count and not tiles.bound[start] < best:
            end = min(start + _BLOCK, count)
            for tile in range(ranged, end):
                _find_tag_range(tag_rows, tiles, tile, row_range)
            ranged = max(ranged, end)
            _bound(tiles, wanted[query], start, end, reachable)
            for tile in range(start, end):
                # Skip a tile without a better pixel, or an equal one that is earlier.
                first = tiles.corner[tile, 0] * w + tiles.corner[tile, 1]
                bound = reachable[tile - start]
                if bound < best or (bound == best and first > best_pixel):
                    continue
                if tiles.slot[tile] < 0:
                    _copy_tile(heat, tags, tiles, tile, copied)
                    tiles.slot[tile] = copied
                    copied += 1
                in_tile = _best_in_tile(tiles, tiles.slot[tile], wanted[query], value)
                pixel = first + in_tile // _SIDE * w + in_tile % _SIDE
                if value[in_tile] > best or (value[in_tile] == best and pixel < best_pixel):
                    best, best_pixel = value[in_tile], pixel
            start = end
        found[query] = best_pixel if best_pixel < h * w else 0  # 0 if all values are NaN


@compiled()
def _sorted_tiles(heat: Heat, dimensions: int) -> _Tiles:
    """Return the tiles of a map, hottest first, by a counting sort; each level of heat stays unsorted."""
    greatest = _hottest_of_tiles(heat)  # (rows columns)
    columns, count = greatest.shape[1], greatest.size
    highest = greatest.max()
    per_level = (highest - greatest.min()) / np.float32(_LEVELS - 1)
    # The rank at which each level begins.
    begin = np.zeros(_LEVELS + 1, np.int64)
    for tile in range(count):
        begin[_level(highest - greatest.flat[tile], per_level) + 1] += 1
    begin = begin.cumsum()
    # Put each tile at the next free rank of its level.
    corner, hottest = np.empty((count, 2), np.int64), np.empty(count, np.float32)
    for tile in range(count):
        level = _level(highest - greatest.flat[tile], per_level)
        rank = begin[level]
        begin[level] += 1
        hottest[rank] = greatest.flat[tile]
        corner[rank, 0], corner[rank, 1] = tile // columns * _SIDE, tile % columns * _SIDE
    # The maximum from each rank on, as the order within a level is arbitrary.
    bound = hottest.copy()
    for rank in range(count - 2, -1, -1):
        bound[rank] = bound[rank + 1] if bound[rank + 1] > bound[rank] else bound[rank]
    low, high = np.empty((dimensions, count), np.float32), np.empty((dimensions, count), np.float32)
    copied_heat = np.empty((count, _AREA), np.float32)
    copied_tags = np.empty((count, dimensions, _AREA), np.float32)
    return _Tiles(corner, hottest, bound, low, high, np.full(count, -1), copied_heat, copied_tags)


@compiled()
def _hottest_of_tiles(heat: Heat) -> Float32[np.ndarray, "rows columns"]:
    h, w = heat.shape
    hottest, column_maximum = np.empty((-(-h // _SIDE), -(-w // _SIDE)), np.float32), np.empty(w, np.float32)
    for i in range(len(hottest)):
        column_maximum[:] = heat[i * _SIDE]
        for y in range(i * _SIDE + 1, min(i * _SIDE + _SIDE, h)):
            for x in range(w):
                column_maximum[x] = heat[y, x] if heat[y, x] > column_maximum[x] else column_maximum[x]
        for j in range(hottest.shape[1]):
            hottest[i, j] = column_maximum[j * _SIDE]
            for x in range(j * _SIDE + 1, min(j * _SIDE + _SIDE, w)):
                hottest[i, j] = column_maximum[x] if column_maximum[x] > hottest[i, j] else hottest[i, j]
    return hottest


@compiled()
def _level(below: np.float32, per_level: np.float32) -> int:
    """Return the level of a tile whose maximum is ``below`` the greatest heat; level 0 has the greatest."""
    level = below / per_level
    return int(min(level, np.float32(_LEVELS - 1))) if level >= 0 else 0  # 0 also for NaN


@compiled()
def _find_tag_range(
    tag_rows: Float32[np.ndarray, "h w*t"], tiles: _Tiles, tile: int, row_range: Float32[np.ndarray, "2 8*t"]
) -> None:
    """Fill in a tile's minimum and maximum of tags per component; ``row_range`` is overwritten."""
    t = len(tiles.low)
    y, x = tiles.corner[tile, 0], tiles.corner[tile, 1] * t
    rows, width = min(_SIDE, len(tag_rows) - y), min(_SIDE * t, tag_rows.shape[1] - x)
    # Over the tile's rows: the range of each column and component.
    for i in range(width):
        row_range[0, i] = row_range[1, i] = tag_rows[y, x + i]
    for row in range(1, rows):
        for i in range(width):
            tag = tag_rows[y + row, x + i]
            row_range[0, i] = tag if tag < row_range[0, i] else row_range[0, i]
            row_range[1, i] = tag if tag > row_range[1, i] else row_range[1, i]
    # Over its columns: the range of each component.
    for c in range(t):
        low, high = row_range[0, c], row_range[1, c]
        for i in range(c + t, width, t):
            low = row_range[0, i] if row_range[0, i] < low else low
            high = row_range[1, i] if row_range[1, i] > high else high
        tiles.low[c, tile], tiles.high[c, tile] = low, high


@compiled()
def _bound(tiles: _Tiles, wanted: Tag, start: int, end: int, reachable: Float32[np.ndarray, " b"]) -> None:
    """Fill ``reachable`` with upper bounds of heat - round(|tag - wanted|) in tiles ``start`` to ``end``."""
    zero = np.float32(0)
    # The squared distance from the wanted tag to the nearest tag in the tile's range.
    for i in range(end - start):
        reachable[i] = zero
    for c in range(len(wanted)):
        for i in range(end - start):
            below, above = tiles.low[c, start + i] - wanted[c], wanted[c] - tiles.high[c, start + i]
            nearest = below if below > above else above
            nearest = nearest if nearest > zero else zero
            reachable[i] += nearest * nearest
    for i in range(end - start):
        reachable[i] = tiles.hottest[start + i] - np.rint(np.sqrt(reachable[i]))


@compiled()
def _copy_tile(heat: Heat, tags: Float32[np.ndarray, "h w t"], tiles: _Tiles, tile: int, slot: int) -> None:
    """Copy a tile's pixels to contiguous memory, with heat -inf outside the map."""
    h, w, t = tags.shape
    top, left = tiles.corner[tile]
    height, width = min(_SIDE, h - top), min(_SIDE, w - left)
    if height < _SIDE or width < _SIDE:
        tiles.heat[slot], tiles.tags[slot] = -np.inf, 0
    for y in range(height):
        for x in range(width):
            tiles.heat[slot, y * _SIDE + x] = heat[top + y, left + x]
        for c in range(t):
            for x in range(width):
                tiles.tags[slot, c, y * _SIDE + x] = tags[top + y, left + x, c]


@compiled()
def _best_in_tile(tiles: _Tiles, slot: int, wanted: Tag, value: Float32[np.ndarray, " 64"]) -> int:
    """Fill ``value`` for a copied tile's pixels and return the first pixel with the maximum."""
    value[:] = 0
    for c in range(len(wanted)):
        for i in range(_AREA):
            difference = tiles.tags[slot, c, i] - wanted[c]
            value[i] += difference * difference
    for i in range(_AREA):
        value[i] = tiles.heat[slot, i] - np.rint(np.sqrt(value[i]))
    best = value[0]
    for i in range(_AREA):
        best = value[i] if value[i] > best else best
    pixel = 0
    while pixel < _AREA - 1 and value[pixel] != best:
        pixel += 1
    return pixel
