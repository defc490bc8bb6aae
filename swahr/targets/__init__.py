"""Training targets: from keypoints to heatmaps, masks and tag indices."""

from swahr.targets.heatmaps import DrawHeatmaps, ExtraTarget, TargetEncoder
from swahr.targets.occlusion import OcclusionTarget

__all__ = ["DrawHeatmaps", "ExtraTarget", "OcclusionTarget", "TargetEncoder"]
