"""Networks: images in, named maps out."""

from swahr.model.heads import Head, HeatmapHead, ScaleMapHead, TagHead, WeightMapHead
from swahr.model.higherhrnet import Backbone, HigherHRNet
from swahr.model.hrnet import HRNet

__all__ = [
    "Backbone",
    "HRNet",
    "Head",
    "HeatmapHead",
    "HigherHRNet",
    "ScaleMapHead",
    "TagHead",
    "WeightMapHead",
]
