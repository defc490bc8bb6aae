"""Rendered crowds: images of articulated people with exact annotations; no files are needed."""

from swahr.synthetic.source import KNOWN_KEYPOINTS, SyntheticSource, render_dataset

__all__ = ["KNOWN_KEYPOINTS", "SyntheticSource", "render_dataset"]
