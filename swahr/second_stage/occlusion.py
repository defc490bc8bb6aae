"""Occlusion maps: heatmaps of hidden keypoints (Chen et al., Adversarial PoseNet, ICCV 2017, section 3.1)."""

from jaxtyping import Float
from torch import Tensor

from swahr.map_kinds import OCCLUSION
from swahr.model import HeatmapHead
from swahr.structures import OCCLUDED, Batch
from swahr.targets import DrawHeatmaps


class OcclusionHead(HeatmapHead):
    """Heatmaps of those keypoints that are hidden."""

    kind = OCCLUSION
    feeds_deconvolution = False


class OcclusionTarget:
    """The heatmaps of keypoints that are annotated as hidden (visibility 1), and 0 for all others."""

    def __call__(self, batch: Batch, stride: int, draw: DrawHeatmaps) -> Float[Tensor, "b k h w"]:  # noqa: ARG002 - of the protocol
        """Return the target of one stride; see `swahr.targets.ExtraTarget`."""
        return draw(batch.visibility == OCCLUDED)
