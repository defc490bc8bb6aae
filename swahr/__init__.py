"""swahr: bottom-up multi-person pose estimation with scale- and weight-adaptive heatmap regression."""

__version__ = "0.1.0"
