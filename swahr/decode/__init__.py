"""Decoding: peaks assembled into people become refined, complete poses in the image frame."""

from swahr.decode.decoder import Decoder
from swahr.decode.recover import KeypointRecovery
from swahr.decode.subpixel import SubpixelRefiner, quarter_offset, taylor_offset

__all__ = ["Decoder", "KeypointRecovery", "SubpixelRefiner", "quarter_offset", "taylor_offset"]
