"""The training objective: heatmap regression with its adaptations, and associative embedding."""

from swahr.loss.criterion import Criterion
from swahr.loss.heatmap import DerivedWeight, ExactTarget, LearnedWeight, TaylorTarget
from swahr.loss.terms import (
    HeatmapRegression,
    MapRegression,
    ScaleMapPenalty,
    StrideTerm,
    TagLoss,
    Term,
    WeightMapPenalty,
)

__all__ = [
    "Criterion",
    "DerivedWeight",
    "ExactTarget",
    "HeatmapRegression",
    "LearnedWeight",
    "MapRegression",
    "ScaleMapPenalty",
    "StrideTerm",
    "TagLoss",
    "TaylorTarget",
    "Term",
    "WeightMapPenalty",
]
