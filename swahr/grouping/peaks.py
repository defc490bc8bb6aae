"""Local maxima of heatmaps: non-maximum suppression in windows, then the best few per keypoint."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from swahr.structures import DenseMaps, Peaks

Plateaus = Literal["one", "all"]


class PeakExtractor:
    """Find the best local maxima of every heatmap (Newell et al., Associative Embedding, 2017, section 3.3).

    A pixel is a peak where it equals the maximum of the window around it. Equal pixels in one window are one
    peak, at the first of them in reading order, or with ``all`` one each, as in the published code: there a
    keypoint exactly between two pixels is found twice, and a second person is made of it.

    Only pixels above the threshold are looked at one by one, and of those only the highest of each block that
    is small enough to hold one peak (Neubeck & Van Gool, Efficient Non-Maximum Suppression, ICPR 2006). The
    maps themselves are read once, and nothing of their size is written.

    Args:
        window: odd side of the suppression window, in map pixels.
        max_people: peaks kept per keypoint.
        threshold: a peak must be higher than this; the others get score 0.
        plateaus: how many of several equal pixels in one window are peaks, ``one`` or ``all``.

    Raises:
        ValueError: the window is even, ``max_people`` is not positive, or ``plateaus`` is unknown.
    """

    def __init__(
        self, window: int = 5, max_people: int = 30, threshold: float = 0.1, plateaus: Plateaus = "one"
    ) -> None:
        if window < 1 or window % 2 == 0:
            raise ValueError(f"expected an odd window such as 5, got {window}")
        if max_people < 1:
            raise ValueError(f"expected max_people of at least 1, got {max_people}")
        if plateaus not in get_args(Plateaus):
            raise ValueError(f"expected plateaus 'one' or 'all', got {plateaus!r}")
        self.window = window
        self.max_people = max_people
        self.threshold = threshold
        self.plateaus: Plateaus = plateaus

    def __call__(self, maps: DenseMaps) -> Peaks:
        """Return ``m = min(max_people, h * w)`` peaks per heatmap, best first. Frame: map.

        Of equal peaks the first in reading order comes first (with ``all``: see `_best_as_published`).
        """
        b, k, h, w = maps.heatmaps.shape
        heatmaps = maps.heatmaps.flatten(0, 1)
        m = min(self.max_people, h * w)
        index, rank = self._best(heatmaps, m)
        plane = index.div(h * w, rounding_mode="floor")
        y, x = index.div(w, rounding_mode="floor") % h, index % w
        positions, scores = heatmaps.new_zeros(b * k, m, 2), heatmaps.new_zeros(b * k, m)
        tags = maps.tags.new_zeros(b * k, m, maps.tags.shape[-1])
        positions[plane, rank] = torch.stack([x, y], dim=1).to(positions.dtype) + 0.5
        scores[plane, rank] = heatmaps.take(index)
        tags[plane, rank] = maps.tags[plane.div(k, rounding_mode="floor"), plane % k, y, x]
        return Peaks(
            positions=positions.view(b, k, m, 2), scores=scores.view(b, k, m), tags=tags.view(b, k, m, -1)
        )

    def _best(
        self, heatmaps: Float[Tensor, "n h w"], count: int
    ) -> tuple[Int64[Tensor, " d"], Int64[Tensor, " d"]]:
        """Flat index of the ``count`` best peaks of every map, and each one's rank on its map."""
        pixels = heatmaps[0].numel()
        index = self._local_maxima(heatmaps)
        plane, scores = index.div(pixels, rounding_mode="floor"), heatmaps.take(index)
        order = scores.argsort(descending=True, stable=True)
        order = order[plane[order].argsort(stable=True)]
        index, plane, scores = index[order], plane[order], scores[order]
        rank = torch.arange(len(index), device=index.device) - torch.searchsorted(plane, plane)
        tied = (scores.diff() == 0) & (plane.diff() == 0)
        if self.plateaus == "all" and bool(tied.any()):
            maps = torch.unique_consecutive(plane[1:][tied])
            best, place = self._best_as_published(heatmaps, maps, count)
            untied = ~torch.isin(plane, maps)
            index, rank = torch.cat([index[untied], best]), torch.cat([rank[untied], place])
        return index[rank < count], rank[rank < count]

    def _best_as_published(
        self, heatmaps: Float[Tensor, "n h w"], maps: Int64[Tensor, " c"], count: int
    ) -> tuple[Int64[Tensor, " d"], Int64[Tensor, " d"]]:
        """The same for some maps, equal peaks in the order in which `torch.topk` happens to leave them."""
        heat = heatmaps[maps]
        is_peak = heat == F.max_pool2d(heat, self.window, stride=1, padding=self.window // 2)
        scores, index = torch.where(is_peak, heat, 0.0).flatten(1).topk(count, dim=1)
        row, rank = (scores > self.threshold).nonzero(as_tuple=True)
        return maps[row] * heat[0].numel() + index[row, rank], rank

    def _local_maxima(self, heatmaps: Float[Tensor, "n h w"]) -> Int64[Tensor, " c"]:
        """Flat index of every pixel above the threshold that is a peak, in reading order."""
        _, h, w = heatmaps.shape
        index = self._block_maxima(heatmaps)
        offsets = _window_offsets(self.window, heatmaps.device)
        # Most are ruled out by their four neighbours, before the whole window is read.
        for part in (offsets[1:5], offsets[5:]):
            around, inside = _around(index, part, h, w)
            exceeded = (heatmaps.take(around) > heatmaps.take(index)[:, None]) & inside
            index = index[~exceeded.any(dim=1)]
        index = index.sort().values
        return index if self.plateaus == "all" else index[~_follows_an_equal(heatmaps, index, offsets)]

    def _block_maxima(self, heatmaps: Float[Tensor, "n h w"]) -> Int64[Tensor, " c"]:
        """Flat index of the pixels that are the highest of their block and above the threshold."""
        _, h, w = heatmaps.shape
        side = self.window // 2 + 1
        highest = _strided_maximum(_strided_maximum(heatmaps, 1, side), 2, side)
        plane, row, column = (highest > self.threshold).nonzero(as_tuple=True)
        step = torch.arange(side, device=heatmaps.device)
        y, x = (row * side)[:, None, None] + step[:, None], (column * side)[:, None, None] + step
        index = (plane[:, None, None] * h + y.clamp(max=h - 1)) * w + x.clamp(max=w - 1)
        is_highest = heatmaps.take(index) == highest[plane, row, column][:, None, None]
        return index[is_highest & (y < h) & (x < w)]


def _strided_maximum(maps: Float[Tensor, "n h w"], dim: int, step: int) -> Float[Tensor, "n h2 w2"]:
    """The maximum of each ``step`` neighbours along a dimension; the last may have fewer."""
    length = maps.shape[dim]
    slices = [maps[(slice(None),) * dim + (slice(i, None, step),)] for i in range(min(step, length))]
    highest = slices[0].clone()
    for other in slices[1:]:
        part = highest.narrow(dim, 0, other.shape[dim])
        torch.maximum(part, other, out=part)
    return highest


def _window_offsets(window: int, device: torch.device) -> Int64[Tensor, "s 2"]:
    """(dy, dx) of a window's pixels, the nearest to its centre first."""
    step = torch.arange(window, device=device) - window // 2
    offsets = torch.cartesian_prod(step, step)
    return offsets[offsets.square().sum(dim=1).argsort(stable=True)]


def _around(
    index: Int64[Tensor, " c"], offsets: Int64[Tensor, "s 2"], h: int, w: int
) -> tuple[Int64[Tensor, "c s"], Bool[Tensor, "c s"]]:
    """Flat index of the pixels at offsets (dy, dx) from each, and whether they are on its map."""
    dy, dx = offsets.unbind(1)
    y, x = (index.div(w, rounding_mode="floor") % h)[:, None] + dy, (index % w)[:, None] + dx
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    return torch.where(inside, index[:, None] + (dy * w + dx), index[:, None]), inside


def _follows_an_equal(
    heatmaps: Float[Tensor, "n h w"], index: Int64[Tensor, " c"], offsets: Int64[Tensor, "s 2"]
) -> Bool[Tensor, " c"]:
    """Whether another of the pixels ``index``, as high, comes before each in reading order in its window."""
    _, h, w = heatmaps.shape
    dy, dx = offsets.unbind(1)
    around, inside = _around(index, offsets[(dy < 0) | ((dy == 0) & (dx < 0))], h, w)
    equal = (heatmaps.take(around) == heatmaps.take(index)[:, None]) & inside
    equal[equal.clone()] = torch.isin(around[equal], index)
    return equal.any(dim=1)
