"""Peak extraction with shapes known beforehand, as an exported graph needs it."""

from __future__ import annotations

import torch

from swahr.grouping import PeakExtractor, is_peak
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
        peaks = is_peak(heatmaps, self.extractor.window, self.extractor.plateaus)
        suppressed = torch.where(peaks, heatmaps, torch.zeros_like(heatmaps))
        scores, index = suppressed.flatten(2).topk(self.extractor.max_people, dim=2)
        tag_index = index[..., None].expand(-1, -1, -1, maps.tags.shape[-1])
        positions = torch.stack([index % w, index.div(w, rounding_mode="floor")], dim=-1)
        return Peaks(
            positions=positions.to(scores.dtype) + 0.5,
            scores=torch.where(scores > self.extractor.threshold, scores, torch.zeros_like(scores)),
            tags=maps.tags.reshape(b, k, h * w, -1).gather(2, tag_index),
        )
