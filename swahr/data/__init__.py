"""Annotated images, augmentation and batches; `swahr.data.datamodule` has the loaders."""

from swahr.data.appearance import RandomAppearance
from swahr.data.coco import CocoSource
from swahr.data.dataset import EpochSampler, PoseDataset, collate
from swahr.data.mixed import MixedSource
from swahr.data.person_crops import RandomPersonCrop
from swahr.data.source import Source
from swahr.data.transforms import RandomAffine

__all__ = [
    "CocoSource",
    "EpochSampler",
    "MixedSource",
    "PoseDataset",
    "RandomAffine",
    "RandomAppearance",
    "RandomPersonCrop",
    "Source",
    "collate",
]
