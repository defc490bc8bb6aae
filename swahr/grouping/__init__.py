"""Grouping: local maxima of the heatmaps, assembled into people by their tags."""

from swahr.grouping.gated import GatedGrouping
from swahr.grouping.official import OfficialGrouping
from swahr.grouping.peaks import PeakExtractor
from swahr.grouping.people import GroupingRule, People

__all__ = ["GatedGrouping", "GroupingRule", "OfficialGrouping", "PeakExtractor", "People"]
