"""Rendered crowds: pictures of articulated people with exact annotations, without any files."""

from swahr.data.synthetic.export import render_dataset
from swahr.data.synthetic.source import KNOWN_KEYPOINTS, SyntheticSource

__all__ = ["KNOWN_KEYPOINTS", "SyntheticSource", "render_dataset"]
