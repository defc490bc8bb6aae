"""The target of occlusion maps."""

from jaxtyping import Float
from torch import Tensor

from swahr.structures import OCCLUDED, Batch
from swahr.targets.heatmaps import DrawHeatmaps


class OcclusionTarget:
    """The heatmaps of keypoints that are annotated as hidden (visibility 1), and 0 for all others."""

    def __call__(self, batch: Batch, stride: int, draw: DrawHeatmaps) -> Float[Tensor, "b k h w"]:  # noqa: ARG002 - of the protocol
        """Return the target of one stride; see `swahr.targets.ExtraTarget`."""
        return draw(batch.visibility == OCCLUDED)
