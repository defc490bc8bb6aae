"""The search for the best place of a missing keypoint, on a CPU.

It finds what `swahr.decode.recover` defines without looking at every pixel: a map is cut into tiles, visited
from the hottest on until none can reach what was found, and those passed over whose range of tags is too far
away. Rounding is monotonic, of tags' differences as of their distance, so that these bounds hold to the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from numba import prange

from swahr.compiled import compiled

_SIDE = 8  # of a tile, in pixels
_AREA = _SIDE**2
_BLOCK = 64  # tiles whose bounds are computed together
_LEVELS = 1024  # of heat, by which tiles are sorted


class _Tiles(NamedTuple):
    """The tiles of a map, hottest first; what is in them is read when it is asked for.

    Attributes:
        corner: (y, x) of the first pixel of each.
        hottest: the greatest heat in each.
        bound: the greatest heat in it and all that follow.
        low: the least tag in each, by component; filled in as far as the search has come.
        high: the greatest.
        slot: where the pixels of each were copied to; -1: nowhere yet.
        heat: of a slot's pixels.
        tags: of a slot's pixels.
    """

    corner: Int64[np.ndarray, "s 2"]
    hottest: Float32[np.ndarray, " s"]
    bound: Float32[np.ndarray, " s"]
    low: Float32[np.ndarray, "t s"]
    high: Float32[np.ndarray, "t s"]
    slot: Int64[np.ndarray, " s"]
    heat: Float32[np.ndarray, "s 64"]
    tags: Float32[np.ndarray, "s t 64"]


def best_places(
    heatmaps: Float32[np.ndarray, "k h w"],
    tags: Float32[np.ndarray, "k h w t"],
    keypoint: Int64[np.ndarray, " n"],
    wanted: Float32[np.ndarray, "n t"],
) -> Int64[np.ndarray, " n"]:
    """For each wanted tag the first of the best pixels, ``y * w + x``, of its keypoint's maps."""
    order = np.argsort(keypoint, kind="stable")
    starts = np.searchsorted(keypoint[order], np.arange(len(heatmaps) + 1))
    sorted_tags, found = wanted[order], np.empty_like(order)
    _search(heatmaps, tags, starts, sorted_tags, found)
    places = np.empty_like(found)
    places[order] = found
    return places


@compiled(parallel=True)
def _search(
    heatmaps: Float32[np.ndarray, "k h w"],
    tags: Float32[np.ndarray, "k h w t"],
    starts: Int64[np.ndarray, " k+1"],
    wanted: Float32[np.ndarray, "n t"],
    found: Int64[np.ndarray, " n"],
) -> None:
    """Fill in ``found``, where the queries of each map begin at its ``starts``."""
    for k in prange(len(heatmaps)):
        if starts[k] < starts[k + 1]:
            own = slice(starts[k], starts[k + 1])
            _search_map(heatmaps[k], tags[k], wanted[own], found[own])


@compiled()
def _search_map(
    heat: Float32[np.ndarray, "h w"],
    tags: Float32[np.ndarray, "h w t"],
    wanted: Float32[np.ndarray, "n t"],
    found: Int64[np.ndarray, " n"],
) -> None:
    h, w = heat.shape
    tiles = _sorted_tiles(heat, tags.shape[2])
    count, known, copied = len(tiles.hottest), 0, 0
    rows, edges = tags.reshape(h, -1), np.empty((2, _SIDE * tags.shape[2]), np.float32)
    reachable, value = np.empty(_BLOCK, np.float32), np.empty(_AREA, np.float32)
    for query in range(len(wanted)):
        best, place, start = np.float32(-np.inf), h * w, 0
        while start < count and not tiles.bound[start] < best:
            end = min(start + _BLOCK, count)
            for tile in range(known, end):
                _find_tag_range(rows, tiles, tile, edges)
            known = max(known, end)
            _bound(tiles, wanted[query], start, end, reachable)
            for tile in range(start, end):
                first = tiles.corner[tile, 0] * w + tiles.corner[tile, 1]
                if reachable[tile - start] < best or (reachable[tile - start] == best and first > place):
                    continue
                if tiles.slot[tile] < 0:
                    _copy_tile(heat, tags, tiles, tile, copied)
                    tiles.slot[tile] = copied
                    copied += 1
                pixel = _best_pixel(tiles, tiles.slot[tile], wanted[query], value)
                there = first + pixel // _SIDE * w + pixel % _SIDE
                if value[pixel] > best or (value[pixel] == best and there < place):
                    best, place = value[pixel], there
            start = end
        found[query] = place if place < h * w else 0  # where all is NaN


@compiled()
def _sorted_tiles(heat: Float32[np.ndarray, "h w"], dimensions: int) -> _Tiles:
    """The tiles of a map in order: by levels of heat, within which any order will do."""
    greatest = _hottest_of_tiles(heat)
    columns, count = greatest.shape[1], greatest.size
    highest = greatest.max()
    per_level = (highest - greatest.min()) / np.float32(_LEVELS - 1)
    begin = np.zeros(_LEVELS + 1, np.int64)
    for tile in range(count):
        begin[_level(highest - greatest.flat[tile], per_level) + 1] += 1
    begin = begin.cumsum()
    corner, hottest = np.empty((count, 2), np.int64), np.empty(count, np.float32)
    for tile in range(count):
        level = _level(highest - greatest.flat[tile], per_level)
        rank = begin[level]
        begin[level] += 1
        hottest[rank] = greatest.flat[tile]
        corner[rank, 0], corner[rank, 1] = tile // columns * _SIDE, tile % columns * _SIDE
    bound = hottest.copy()
    for rank in range(count - 2, -1, -1):
        bound[rank] = bound[rank + 1] if bound[rank + 1] > bound[rank] else bound[rank]
    low, high = np.empty((dimensions, count), np.float32), np.empty((dimensions, count), np.float32)
    tile_heat, tile_tags = (
        np.empty((count, _AREA), np.float32),
        np.empty((count, dimensions, _AREA), np.float32),
    )
    return _Tiles(corner, hottest, bound, low, high, np.full(count, -1), tile_heat, tile_tags)


@compiled()
def _hottest_of_tiles(heat: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "rows columns"]:
    h, w = heat.shape
    hottest, of_row = np.empty((-(-h // _SIDE), -(-w // _SIDE)), np.float32), np.empty(w, np.float32)
    for i in range(len(hottest)):
        of_row[:] = heat[i * _SIDE]
        for y in range(i * _SIDE + 1, min(i * _SIDE + _SIDE, h)):
            for x in range(w):
                of_row[x] = heat[y, x] if heat[y, x] > of_row[x] else of_row[x]
        for j in range(hottest.shape[1]):
            hottest[i, j] = of_row[j * _SIDE]
            for x in range(j * _SIDE + 1, min(j * _SIDE + _SIDE, w)):
                hottest[i, j] = of_row[x] if of_row[x] > hottest[i, j] else hottest[i, j]
    return hottest


@compiled()
def _level(below: np.float32, per_level: np.float32) -> int:
    """0 for the greatest heat."""
    level = below / per_level
    return int(min(level, np.float32(_LEVELS - 1))) if level >= 0 else 0  # not so if it is NaN


@compiled()
def _find_tag_range(
    tags: Float32[np.ndarray, "h w*t"], tiles: _Tiles, tile: int, edges: Float32[np.ndarray, "2 8*t"]
) -> None:
    """Of whole rows first, all components together, and then of the tile."""
    t = len(tiles.low)
    y, x = tiles.corner[tile, 0], tiles.corner[tile, 1] * t
    rows, wide = min(_SIDE, len(tags) - y), min(_SIDE * t, tags.shape[1] - x)
    for i in range(wide):
        edges[0, i] = edges[1, i] = tags[y, x + i]
    for row in range(1, rows):
        for i in range(wide):
            tag = tags[y + row, x + i]
            edges[0, i] = tag if tag < edges[0, i] else edges[0, i]
            edges[1, i] = tag if tag > edges[1, i] else edges[1, i]
    for c in range(t):
        low, high = edges[0, c], edges[1, c]
        for i in range(c + t, wide, t):
            low = edges[0, i] if edges[0, i] < low else low
            high = edges[1, i] if edges[1, i] > high else high
        tiles.low[c, tile], tiles.high[c, tile] = low, high


@compiled()
def _bound(
    tiles: _Tiles,
    wanted: Float32[np.ndarray, " t"],
    start: int,
    end: int,
    reachable: Float32[np.ndarray, " b"],
) -> None:
    """The greatest value that each of some tiles can hold."""
    zero = np.float32(0)
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
def _copy_tile(
    heat: Float32[np.ndarray, "h w"], tags: Float32[np.ndarray, "h w t"], tiles: _Tiles, tile: int, slot: int
) -> None:
    """Copy a tile's pixels to where they lie together; nothing is hot outside the map."""
    h, w, t = tags.shape
    top, left = tiles.corner[tile]
    high, wide = min(_SIDE, h - top), min(_SIDE, w - left)
    if high < _SIDE or wide < _SIDE:
        tiles.heat[slot], tiles.tags[slot] = -np.inf, 0
    for y in range(high):
        for x in range(wide):
            tiles.heat[slot, y * _SIDE + x] = heat[top + y, left + x]
        for c in range(t):
            for x in range(wide):
                tiles.tags[slot, c, y * _SIDE + x] = tags[top + y, left + x, c]


@compiled()
def _best_pixel(
    tiles: _Tiles, slot: int, wanted: Float32[np.ndarray, " t"], value: Float32[np.ndarray, " 64"]
) -> int:
    """The first of a tile's pixels with the greatest value; all values are left in ``value``."""
    value[:] = 0
    for c in range(len(wanted)):
        for i in range(_AREA):
            away = tiles.tags[slot, c, i] - wanted[c]
            value[i] += away * away
    for i in range(_AREA):
        value[i] = tiles.heat[slot, i] - np.rint(np.sqrt(value[i]))
    best = value[0]
    for i in range(_AREA):
        best = value[i] if value[i] > best else best
    pixel = 0
    while pixel < _AREA - 1 and value[pixel] != best:
        pixel += 1
    return pixel
