"""Grouping: local maxima of the heatmaps, assembled into people by their tags."""

from swahr.grouping.associative_embedding import AssociativeEmbedding
from swahr.grouping.peaks import PeakExtractor, is_peak

__all__ = ["AssociativeEmbedding", "PeakExtractor", "is_peak"]
