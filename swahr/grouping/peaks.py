"""Local maxima of heatmaps: non-maximum suppression by max-pooling, then the best few per keypoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from swahr.structures import DenseMaps, Peaks


class PeakExtractor:
    """Find the best local maxima of every heatmap (Newell et al., Associative Embedding, 2017, section 3.3).

    A pixel is a peak where it equals the maximum of the window around it, so every pixel of a plateau is one.

    Args:
        window: odd side of the suppression window, in map pixels.
        max_people: peaks kept per keypoint.
        threshold: a peak must be higher than this; the others get score 0.

    Raises:
        ValueError: the window is even, or ``max_people`` is not positive.
    """

    def __init__(self, window: int = 5, max_people: int = 30, threshold: float = 0.1) -> None:
        if window < 1 or window % 2 == 0:
            raise ValueError(f"expected an odd window such as 5, got {window}")
        if max_people < 1:
            raise ValueError(f"expected max_people of at least 1, got {max_people}")
        self.window = window
        self.max_people = max_people
        self.threshold = threshold

    def __call__(self, maps: DenseMaps) -> Peaks:
        """Return ``m = min(max_people, h * w)`` peaks per heatmap, best first. Frame: map."""
        heatmaps = maps.heatmaps
        b, k, h, w = heatmaps.shape
        highest = F.max_pool2d(heatmaps, self.window, stride=1, padding=self.window // 2)
        suppressed = torch.where(heatmaps == highest, heatmaps, torch.zeros_like(heatmaps))
        scores, index = suppressed.flatten(2).topk(min(self.max_people, h * w), dim=2)
        tag_index = index[..., None].expand(-1, -1, -1, maps.tags.shape[-1])
        positions = torch.stack([index % w, index.div(w, rounding_mode="floor")], dim=-1)
        return Peaks(
            positions=positions.to(scores.dtype) + 0.5,
            scores=torch.where(scores > self.threshold, scores, torch.zeros_like(scores)),
            tags=maps.tags.reshape(b, k, h * w, -1).gather(2, tag_index),
        )
