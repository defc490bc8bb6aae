"""What keeps AP from being higher, and how certain AP is."""

from swahr.analysis.bootstrap import Interval, ap_difference, ap_interval
from swahr.analysis.diagnosis import Diagnosis, diagnose
from swahr.analysis.mending import mended_metrics

__all__ = ["Diagnosis", "Interval", "ap_difference", "ap_interval", "diagnose", "mended_metrics"]
