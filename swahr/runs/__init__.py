"""How a training run is kept: checkpoints, logs, pictures, its description and its initial weights."""

from swahr.runs.callbacks import (
    ExportBest,
    ForegroundShare,
    SaveOnInterrupt,
    Throughput,
    WarnOfEqualTags,
)
from swahr.runs.drawings import PlotCurves, PredictionPictures

__all__ = [
    "ExportBest",
    "ForegroundShare",
    "PlotCurves",
    "PredictionPictures",
    "SaveOnInterrupt",
    "Throughput",
    "WarnOfEqualTags",
]
