# mypose/subpixel.py
"""Sub-pixel positions from a parabola through three pixels of the log-heatmap."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from swahr.decode import SubpixelMethod
from swahr.structures import ImageMaps


class LogParabola(SubpixelMethod):
    """The maximum of a Gaussian fitted along x and along y, each through a peak and its two neighbours.

    Args:
        smallest: heat below this is raised to it before the logarithm.
    """

    def __init__(self, smallest: float = 1e-6) -> None:
        self.smallest = smallest

    def offsets(self, maps: ImageMaps, index: Int64[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
        """Offsets (x, y) of the maxima, at most half a pixel; 0 at the map's border."""
        h, w = maps.heatmaps.shape[1:]
        keypoint, y, x = index.unbind(1)

        def log_heat(dx: int, dy: int) -> Float[Tensor, " n"]:
            heat = maps.heatmaps[keypoint, (y + dy).clamp(0, h - 1), (x + dx).clamp(0, w - 1)]
            return heat.clamp(min=self.smallest).log()

        before = torch.stack([log_heat(-1, 0), log_heat(0, -1)], dim=1)  # (n 2)
        after = torch.stack([log_heat(1, 0), log_heat(0, 1)], dim=1)
        curvature = before + after - 2 * log_heat(0, 0)[:, None]
        offset = (before - after) / (2 * curvature.clamp(max=-self.smallest))
        inside = torch.stack([(x > 0) & (x < w - 1), (y > 0) & (y < h - 1)], dim=1)
        return torch.where(inside, offset.clamp(-0.5, 0.5), 0.0)
