"""The head of occlusion maps."""

from swahr.map_kinds import OCCLUSION
from swahr.model.heads import HeatmapHead


class OcclusionHead(HeatmapHead):
    """Heatmaps of those keypoints that are hidden (Chen et al., Adversarial PoseNet, ICCV 2017)."""

    kind = OCCLUSION
    feeds_deconvolution = False
