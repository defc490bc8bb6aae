"""Training targets: from keypoints to heatmaps, masks and tag indices."""

from swahr.targets.heatmaps import DrawHeatmaps, ExtraTarget, TargetEncoder

__all__ = ["DrawHeatmaps", "ExtraTarget", "TargetEncoder"]
