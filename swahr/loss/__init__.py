"""Losses: network output and targets in, named weighted terms out."""

from swahr.loss.criterion import Criterion

__all__ = ["Criterion"]
