"""Aggregation: one set of maps out of several strides, test scales and mirror images."""

from swahr.aggregate.aggregator import Aggregator
from swahr.aggregate.inputs import Inputs

__all__ = ["Aggregator", "Inputs"]
