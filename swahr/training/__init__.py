"""Training with Lightning: module, optimiser and schedule, callbacks."""

from swahr.training.callbacks import (
    EmaWeights,
    ExportBest,
    SaveOnInterrupt,
    Throughput,
    WarnOfEqualTags,
)
from swahr.training.drawings import PlotCurves, PredictionPictures
from swahr.training.module import PoseModule
from swahr.training.optimiser import AdamWithWarmup

__all__ = [
    "AdamWithWarmup",
    "EmaWeights",
    "ExportBest",
    "PlotCurves",
    "PoseModule",
    "PredictionPictures",
    "SaveOnInterrupt",
    "Throughput",
    "WarnOfEqualTags",
]
