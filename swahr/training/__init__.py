"""Training on Lightning's Trainer: a thin module, its optimiser and schedule, and what happens around it."""

from swahr.training.callbacks import (
    EmaWeights,
    ExportBest,
    PlotCurves,
    PredictionPictures,
    ProgressBar,
    SaveOnInterrupt,
    StampCheckpoints,
    Throughput,
)
from swahr.training.module import PoseModule
from swahr.training.network import prepare_network
from swahr.training.optimiser import AdamWithWarmup

__all__ = [
    "AdamWithWarmup",
    "EmaWeights",
    "ExportBest",
    "PlotCurves",
    "PoseModule",
    "PredictionPictures",
    "ProgressBar",
    "SaveOnInterrupt",
    "StampCheckpoints",
    "Throughput",
    "prepare_network",
]
