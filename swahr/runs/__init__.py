"""How a training run is kept: checkpoints, logs, pictures, its description and its initial weights."""

from swahr.runs.callbacks import ExportBest, SaveOnInterrupt, Throughput
from swahr.runs.drawings import PlotCurves, PredictionPictures
from swahr.runs.watching import ForegroundShare, WarnOfEqualTags

__all__ = [
    "ExportBest",
    "ForegroundShare",
    "PlotCurves",
    "PredictionPictures",
    "SaveOnInterrupt",
    "Throughput",
    "WarnOfEqualTags",
]
