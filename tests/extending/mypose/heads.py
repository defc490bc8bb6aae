# mypose/heads.py
"""Heatmaps of occluded keypoints: which of a person's keypoints are hidden, and where."""

from jaxtyping import Float
from torch import Tensor

from swahr.map_kinds import MapKind, define_map
from swahr.model import HeatmapHead
from swahr.structures import OCCLUDED, Batch
from swahr.targets import DrawHeatmaps

OCCLUDED_KEYPOINTS = define_map(MapKind("occluded_keypoints", "occluded keypoints", colours=None))


class OcclusionHead(HeatmapHead):
    """One map per keypoint, high where that keypoint is labelled as hidden."""

    kind = OCCLUDED_KEYPOINTS
    feeds_deconvolution = False


def occluded_keypoints(batch: Batch, stride: int, draw: DrawHeatmaps) -> Float[Tensor, "b k h w"]:
    """The target: the heatmaps of occluded keypoints alone, with the Gaussians of the other heatmaps."""
    return draw(batch.visibility == OCCLUDED)
