"""Training with Lightning: module, optimiser and schedule, averaged weights."""

from swahr.training.averaging import EmaWeights
from swahr.training.module import PoseModule
from swahr.training.optimiser import AdamWithWarmup

__all__ = ["AdamWithWarmup", "EmaWeights", "PoseModule"]
