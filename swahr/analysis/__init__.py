"""What keeps AP from being higher, how certain AP is, and other measures of found poses."""

from swahr.analysis.anatomy import Anatomy, Plausibility, fit_anatomy
from swahr.analysis.bootstrap import Interval, ap_difference, ap_interval
from swahr.analysis.diagnosis import Diagnosis, diagnose
from swahr.analysis.mending import mended_metrics
from swahr.analysis.pckh import PCKh, pckh
from swahr.analysis.visibility import visibility_metrics

__all__ = [
    "Anatomy",
    "Diagnosis",
    "Interval",
    "PCKh",
    "Plausibility",
    "ap_difference",
    "ap_interval",
    "diagnose",
    "fit_anatomy",
    "mended_metrics",
    "pckh",
    "visibility_metrics",
]
