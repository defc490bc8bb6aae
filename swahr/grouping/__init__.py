"""Grouping: local maxima of the heatmaps, assembled into people by their tags."""

from swahr.grouping.associative_embedding import AssociativeEmbedding
from swahr.grouping.peaks import PeakExtractor

__all__ = ["AssociativeEmbedding", "PeakExtractor"]
