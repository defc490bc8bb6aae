"""Networks: images in, named maps out."""

from swahr.model.efficientnet import EfficientNetLite
from swahr.model.heads import Head, HeatmapHead, ScaleMapHead, TagHead, WeightMapHead
from swahr.model.higherhrnet import Backbone, HigherHRNet
from swahr.model.hrnet import HRNet
from swahr.model.occlusion import OcclusionHead
from swahr.model.recompute import recompute_activations

__all__ = [
    "Backbone",
    "EfficientNetLite",
    "HRNet",
    "Head",
    "HeatmapHead",
    "HigherHRNet",
    "OcclusionHead",
    "ScaleMapHead",
    "TagHead",
    "WeightMapHead",
    "recompute_activations",
]
