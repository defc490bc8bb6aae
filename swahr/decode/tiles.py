"""Maps in square tiles, of which little has to be read to know what they can hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

SIDE = 8  # of a tile, in map pixels
_FEW = 4  # if less than one in so many tiles is asked for, only these are read

_Reduce = Callable[..., Tensor]
_OfTwo = Callable[[Tensor, Tensor], Tensor]
_LEAST: tuple[_Reduce, _OfTwo] = (torch.amin, torch.minimum)
_GREATEST: tuple[_Reduce, _OfTwo] = (torch.amax, torch.maximum)


@dataclass(frozen=True, eq=False)
class TiledMaps:
    """Maps whose sides are multiples of a tile's.

    Tiles and pixels of a map are numbered in reading order. ``heat (k h w/8, 8)`` and ``tags (k h w/8, 8 t)``
    hold a row of a tile each.
    """

    heat: Float[Tensor, "r 8"]
    tags: Float[Tensor, "r s"]
    grid: tuple[int, int]

    @classmethod
    def of(cls, heatmaps: Float[Tensor, "k h w"], tags: Float[Tensor, "k h w t"]) -> TiledMaps:
        """Maps made a little larger where they do not divide into tiles; nothing is hot there."""
        below, right = (-length % SIDE for length in heatmaps.shape[1:])
        if below or right:
            heatmaps = F.pad(heatmaps, (0, right, 0, below), value=-torch.inf)
            tags = F.pad(tags, (0, 0, 0, right, 0, below))
        _, h, w, t = tags.shape
        return cls(heatmaps.reshape(-1, SIDE), tags.reshape(-1, SIDE * t), (h // SIDE, w // SIDE))

    @property
    def width(self) -> int:
        """Of the maps, in pixels."""
        return self.grid[1] * SIDE

    def hottest(self, keypoints: Int64[Tensor, " p"]) -> Float[Tensor, "p s"]:
        """The greatest heat of each tile of some maps."""
        return self._whole(self.heat, keypoints, *_GREATEST)[0]

    def tag_ranges(
        self, keypoints: Int64[Tensor, " p"], tile: Int64[Tensor, "p s"]
    ) -> tuple[Float[Tensor, "t p s"], Float[Tensor, "t p s"]]:
        """The least and the greatest tags of tiles."""
        if tile.shape[1] * _FEW < self.grid[0] * self.grid[1]:
            rows = self._rows(keypoints.repeat_interleave(tile.shape[1]), tile.flatten())
            tags = self.tags.index_select(0, rows).view(tile.numel(), SIDE, -1)
            low, high = (_fold(of_rows(tags, dim=1), of_two) for of_rows, of_two in (_LEAST, _GREATEST))
            return low.view(-1, *tile.shape), high.view(-1, *tile.shape)
        low, high = (self._whole(self.tags, keypoints, *edge) for edge in (_LEAST, _GREATEST))
        index = tile.expand(len(low), -1, -1)
        return low.gather(2, index), high.gather(2, index)

    def _whole(
        self, rows: Float[Tensor, "r c"], keypoints: Int64[Tensor, " p"], of_rows: _Reduce, of_two: _OfTwo
    ) -> Float[Tensor, "t p s"]:
        maps = rows.view(-1, self.grid[0], SIDE, self.grid[1] * rows.shape[1])
        # Map by map: to copy those that are asked for would take longer than to read them.
        edge = torch.stack([of_rows(maps[keypoint], dim=1) for keypoint in keypoints.tolist()])
        folded = _fold(edge.view(-1, rows.shape[1]), of_two)
        return folded.view(len(folded), len(keypoints), -1)

    def first(self, tile: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
        """A tile's first pixel."""
        row = tile.div(self.grid[1], rounding_mode="floor")
        return (row * (SIDE - 1) * self.grid[1] + tile) * SIDE

    def steps(self) -> Int64[Tensor, " 64"]:
        """How much further on a tile's pixels are than its first one."""
        step = torch.arange(SIDE, device=self.heat.device)
        return (step[:, None] * self.width + step).flatten()

    def pixels(
        self, keypoint: Int64[Tensor, " n"], tile: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c t"]]:
        """Heat and tags of tiles."""
        rows = self._rows(keypoint, tile)
        heat, tags = self.heat.index_select(0, rows), self.tags.index_select(0, rows)
        return heat.view(-1, SIDE**2), tags.view(len(tile), SIDE**2, -1)

    def hottest_pixels(
        self, keypoints: Int64[Tensor, " p"], tile: Int64[Tensor, "p s"]
    ) -> tuple[Float[Tensor, "t p s"], Int64[Tensor, "p s"]]:
        """Tags and place of a hottest pixel of tiles."""
        heat, tags = self.pixels(keypoints.repeat_interleave(tile.shape[1]), tile.flatten())
        pixel = heat.max(dim=1).indices
        tags = tags.gather(1, pixel[:, None, None].expand(-1, 1, tags.shape[2]))[:, 0]
        return tags.mT.reshape(-1, *tile.shape), self.first(tile) + self.steps()[pixel].view_as(tile)

    def _rows(self, keypoint: Int64[Tensor, " n"], tile: Int64[Tensor, " n"]) -> Int64[Tensor, " r"]:
        h, w = self.grid
        row, column = tile.div(w, rounding_mode="floor"), tile % w
        start = (keypoint * h + row) * SIDE * w + column
        return (start[:, None] + w * torch.arange(SIDE, device=tile.device)).flatten()


def _fold(rows: Float[Tensor, "n c"], of_two: _OfTwo) -> Float[Tensor, "t n"]:
    """From what holds for a tile's columns, ``c = 8 t``, to what holds for the tile."""
    components = rows.shape[1] // SIDE
    while rows.shape[1] > components:
        rows = of_two(*rows.chunk(2, dim=1))
    return rows.mT.contiguous()
