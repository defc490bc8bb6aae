"""Local maxima of heatmaps: non-maximum suppression by max-pooling, then the best few per keypoint."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from swahr.structures import DenseMaps, Peaks

Plateaus = Literal["one", "all"]


class PeakExtractor:
    """Find the best local maxima of every heatmap (Newell et al., Associative Embedding, 2017, section 3.3).

    A pixel is a peak where it equals the maximum of the window around it. Equal pixels in one window are one
    peak, at the first of them in reading order, or with ``all`` one each, as in the published code: there a
    keypoint exactly between two pixels is found twice, and a second person is made of it.

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
        """Return ``m = min(max_people, h * w)`` peaks per heatmap, best first. Frame: map."""
        heatmaps = maps.heatmaps
        b, k, h, w = heatmaps.shape
        suppressed = torch.where(self._is_peak(heatmaps), heatmaps, torch.zeros_like(heatmaps))
        scores, index = suppressed.flatten(2).topk(min(self.max_people, h * w), dim=2)
        tag_index = index[..., None].expand(-1, -1, -1, maps.tags.shape[-1])
        positions = torch.stack([index % w, index.div(w, rounding_mode="floor")], dim=-1)
        return Peaks(
            positions=positions.to(scores.dtype) + 0.5,
            scores=torch.where(scores > self.threshold, scores, torch.zeros_like(scores)),
            tags=maps.tags.reshape(b, k, h * w, -1).gather(2, tag_index),
        )

    def _is_peak(self, heatmaps: Float[Tensor, "b k h w"]) -> Bool[Tensor, "b k h w"]:
        maximal = heatmaps == self._highest(heatmaps)
        if self.plateaus == "all":
            return maximal
        h, w = heatmaps.shape[2:]
        earliness = torch.arange(h * w, 0, -1, dtype=torch.float32, device=heatmaps.device).view(h, w)
        earliness = earliness * maximal
        return maximal & (earliness == self._highest(earliness))

    def _highest(self, maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Of the window around each pixel: first along its row, then of those along its column."""
        window, margin = self.window, self.window // 2
        rows = F.max_pool2d(maps, (1, window), stride=1, padding=(0, margin))
        return F.max_pool2d(rows, (window, 1), stride=1, padding=(margin, 0))
