"""Training with Lightning: module, optimiser and schedule, callbacks."""

from swahr.training.callbacks import (
    DescribeCheckpoints,
    EmaWeights,
    ExportBest,
    PlotCurves,
    PredictionPictures,
    ProgressBar,
    SaveOnInterrupt,
    Throughput,
)
from swahr.training.compute import prepare_network
from swahr.training.module import PoseModule
from swahr.training.optimiser import AdamWithWarmup

__all__ = [
    "AdamWithWarmup",
    "DescribeCheckpoints",
    "EmaWeights",
    "ExportBest",
    "PlotCurves",
    "PoseModule",
    "PredictionPictures",
    "ProgressBar",
    "SaveOnInterrupt",
    "Throughput",
    "prepare_network",
]
