"""What keeps AP from being higher, and how certain AP is."""

from swahr.analysis.bootstrap import Interval, ap_difference, ap_interval

__all__ = ["Interval", "ap_difference", "ap_interval"]
