"""From keypoints to what the network is taught: heatmaps, masks and tag positions."""

from swahr.target.heatmaps import TargetEncoder

__all__ = ["TargetEncoder"]
