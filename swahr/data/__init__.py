"""From annotation files and renderers to batches of labelled images."""

from swahr.data.coco import CocoSource
from swahr.data.datamodule import PoseDataModule, validation_loader
from swahr.data.dataset import EpochSampler, PoseDataset, collate
from swahr.data.images import read_image
from swahr.data.source import Source
from swahr.data.synthetic import SyntheticSource, render_dataset
from swahr.data.transforms import RandomAffine

__all__ = [
    "CocoSource",
    "EpochSampler",
    "PoseDataModule",
    "PoseDataset",
    "RandomAffine",
    "Source",
    "SyntheticSource",
    "collate",
    "read_image",
    "render_dataset",
    "validation_loader",
]
