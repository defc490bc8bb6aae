"""Peak extraction with shapes known beforehand, as an exported graph needs it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from swahr.grouping import PeakExtractor
from swahr.structures import DenseMaps, Peaks


class GraphPeaks:
    """What `swahr.grouping.PeakExtractor` finds, by max-pooling whole maps: the same operations for any maps.

    Args:
        extractor: whose settings to take.
    """

    def __init__(self, extractor: PeakExtractor) -> None:
        self.extractor = extractor

    def __call__(self, maps: DenseMaps) -> Peaks:
        """Return ``max_people`` peaks per heatmap, best first. Frame: map."""
        heatmaps = maps.heatmaps
        b, k, h, w = heatmaps.shape
        suppressed = torch.where(self._is_peak(heatmaps), heatmaps, torch.zeros_like(heatmaps))
        scores, index = suppressed.flatten(2).topk(self.extractor.max_people, dim=2)
        tag_index = index[..., None].expand(-1, -1, -1, maps.tags.shape[-1])
        positions = torch.stack([index % w, index.div(w, rounding_mode="floor")], dim=-1)
        return Peaks(
            positions=positions.to(scores.dtype) + 0.5,
            scores=torch.where(scores > self.extractor.threshold, scores, torch.zeros_like(scores)),
            tags=maps.tags.reshape(b, k, h * w, -1).gather(2, tag_index),
        )

    def _is_peak(self, heatmaps: Float[Tensor, "b k h w"]) -> Bool[Tensor, "b k h w"]:
        maximal = heatmaps == self._highest(heatmaps)
        if self.extractor.plateaus == "all":
            return maximal
        h, w = heatmaps.shape[2:]
        earliness = torch.arange(h * w, 0, -1, dtype=torch.float32, device=heatmaps.device).view(h, w)
        earliness = earliness * maximal
        return maximal & (earliness == self._highest(earliness))

    def _highest(self, maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Of the window around each pixel: first along its row, then of those along its column."""
        window, margin = self.extractor.window, self.extractor.window // 2
        rows = F.max_pool2d(maps, (1, window), stride=1, padding=(0, margin))
        return F.max_pool2d(rows, (window, 1), stride=1, padding=(margin, 0))
