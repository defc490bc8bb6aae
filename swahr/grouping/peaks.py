"""Local maxima of heatmaps: non-maximum suppression in windows, then the best few per keypoint."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from swahr.grouping.maxima import best_maxima
from swahr.structures import DenseMaps, Peaks

Plateaus = Literal["one", "all"]


class PeakExtractor:
    """Find the best local maxima of every heatmap (Newell et al., Associative Embedding, 2017, section 3.3).

    A pixel is a peak where it equals the maximum of the window around it. Equal pixels in one window are one
    peak, at the first of them in reading order, or with ``all`` one each, as in the published code: there a
    keypoint exactly between two pixels is found twice, and a second person is made of it.

    On a CPU single-precision maps are read once (see `swahr.grouping.maxima`), elsewhere they are max-pooled.

    Args:
        window: odd side of the suppression window, in map pixels.
        max_people: peaks kept per keypoint.
        threshold: a peak must be higher than this; the others get score 0.
        plateaus: how many of several equal pixels in one window are peaks, ``one`` or ``all``.

    Raises:
        ValueError: the window is even, ``max_people`` is not positive, ``plateaus`` is unknown, or
            the threshold is negative with ``all``.
    """

    def __init__(
        self, window: int = 5, max_people: int = 30, threshold: float = 0.1, plateaus: Plateaus = "one"
    ) -> None:
        if window < 1 or window % 2 == 0:
            raise ValueError(f"expected an odd window such as 5, got {window}")
        if max_people < 1:
            raise ValueError(f"expected max_people of at least 1, got {max_people}")
        if plateaus == "all" and threshold < 0:  # suppressed pixels count as 0 there
            raise ValueError(f"expected a threshold of at least 0 with plateaus 'all', got {threshold}")
        if plateaus not in get_args(Plateaus):
            raise ValueError(f"expected plateaus 'one' or 'all', got {plateaus!r}")
        self.window = window
        self.max_people = max_people
        self.threshold = threshold
        self.plateaus: Plateaus = plateaus

    def __call__(self, maps: DenseMaps) -> Peaks:
        """Return ``m = min(max_people, h * w)`` peaks per heatmap, best first. Frame: map.

        Of equal peaks the first in reading order comes first; with ``all`` they are in the order in which
        `torch.topk` happens to leave them, as published.
        """
        b, k, h, w = maps.heatmaps.shape
        count = min(self.max_people, h * w)
        on_cpu = maps.heatmaps.device.type == "cpu" and maps.heatmaps.dtype == torch.float32
        find = self._found_by_loops if on_cpu else self._found_by_pooling
        place = find(maps.heatmaps.detach().flatten(0, 1), count).view(b, k, count)
        found, index = place >= 0, place.clamp(min=0)
        y, x = index.div(w, rounding_mode="floor"), index % w
        image = torch.arange(b, device=x.device)[:, None, None]
        keypoint = torch.arange(k, device=x.device)[:, None]
        positions = torch.stack([x, y], dim=3).to(maps.heatmaps.dtype) + 0.5
        return Peaks(
            positions=torch.where(found[..., None], positions, 0.0),
            scores=torch.where(found, maps.heatmaps[image, keypoint, y, x], 0.0),
            tags=torch.where(found[..., None], maps.tags[image, keypoint, y, x], 0.0),
        )

    def _found_by_loops(self, heatmaps: Float[Tensor, "n h w"], count: int) -> Int64[Tensor, "n m"]:
        """The pixels of every map's best peaks, then -1."""
        place = best_maxima(
            heatmaps.contiguous().numpy(),
            window=self.window,
            threshold=self.threshold,
            count=count + 1,  # one more tells whether the last one kept is as high as another
            first_only=self.plateaus == "one",
        )
        best = torch.from_numpy(place)
        if self.plateaus == "all":
            scores = heatmaps.flatten(1).gather(1, best.clamp(min=0))
            tied = ((scores.diff() == 0) & (best[:, 1:] >= 0)).any(dim=1)
            if bool(tied.any()):
                best[tied, :count] = self._found_by_pooling(heatmaps[tied], count)
        return best[:, :count]

    def _found_by_pooling(self, heatmaps: Float[Tensor, "n h w"], count: int) -> Int64[Tensor, "n m"]:
        """The same, by operations on whole maps."""
        peaks = is_peak(heatmaps, self.window, self.plateaus)
        if self.plateaus == "all":
            scores, index = torch.where(peaks, heatmaps, 0.0).flatten(1).topk(count, dim=1)
            return torch.where(scores > self.threshold, index, -1)
        plane, index = (peaks & (heatmaps > self.threshold)).flatten(1).nonzero(as_tuple=True)
        order = heatmaps.flatten(1)[plane, index].argsort(descending=True, stable=True)
        order = order[plane[order].argsort(stable=True)]
        plane, index = plane[order], index[order]
        rank = torch.arange(len(plane), device=plane.device) - torch.searchsorted(plane, plane)
        best = index.new_full((len(heatmaps), count + 1), -1)
        best[plane, rank.clamp(max=count)] = index
        return best[:, :count]


def is_peak(heatmaps: Float[Tensor, "*b h w"], window: int, plateaus: Plateaus) -> Bool[Tensor, "*b h w"]:
    """Which pixels are the maximum of the window around them; of equal ones all, or the first."""
    maximal = heatmaps == _highest(heatmaps, window)
    if plateaus == "all":
        return maximal
    h, w = heatmaps.shape[-2:]
    earliness = torch.arange(h * w, 0, -1, dtype=torch.float32, device=heatmaps.device).view(h, w)
    earliness = earliness * maximal
    return maximal & (earliness == _highest(earliness, window))


def _highest(maps: Float[Tensor, "*b h w"], window: int) -> Float[Tensor, "*b h w"]:
    """Of the window around each pixel: first along its row, then of those along its column."""
    rows = F.max_pool2d(maps, (1, window), stride=1, padding=(0, window // 2))
    return F.max_pool2d(rows, (window, 1), stride=1, padding=(window // 2, 0))
