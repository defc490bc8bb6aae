"""Decoding: from dense maps to poses, with sub-pixel refinement and recovery of missing keypoints."""

from swahr.decode.decoder import Decoder
from swahr.decode.recover import KeypointRecovery
from swahr.decode.subpixel import Dark, DarkWithScaleMap, PixelCentre, QuarterOffset, SubpixelMethod

__all__ = [
    "Dark",
    "DarkWithScaleMap",
    "Decoder",
    "KeypointRecovery",
    "PixelCentre",
    "QuarterOffset",
    "SubpixelMethod",
]
