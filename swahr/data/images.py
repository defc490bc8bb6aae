"""Reading image files into RGB arrays, and refusing files that only look intact."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # with its checksum


def read_image(path: str | Path, *, apply_orientation: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file as RGB, 8 bits a channel, turned upright by its EXIF orientation.

    Grey and palette images are expanded to three channels, 16-bit values are divided by 256, and an alpha
    channel is dropped.

    Args:
        path: any format that OpenCV decodes.
        apply_orientation: False gives the pixels as they are stored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, truncated or not an image.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        missing = path if path.parent.is_dir() else path.parent
        raise FileNotFoundError(
            f"{path}: expected an image file, but {missing} does not exist; check the images folder and the "
            f"file name"
        ) from None
    if _is_truncated(data):
        raise ValueError(
            f"{path}: expected a whole image, but the file breaks off after {len(data)} bytes; fetch it again"
        )
    flags = cv2.IMREAD_COLOR if apply_orientation else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if image is None:
        raise ValueError(
            f"{path}: expected an image that OpenCV decodes (JPEG, PNG, ...), got {len(data)} bytes that "
            f"start with {data[:8]!r}; replace or convert the file"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _is_truncated(data: bytes) -> bool:
    """Whether the end marker is missing: OpenCV fills the rest of a truncated file with grey, silently."""
    if data.startswith(_JPEG_START):
        return data.find(_JPEG_END, _first_scan(data)) < 0
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    return not data


def _first_scan(data: bytes) -> int:
    """Where a JPEG's compressed pixels begin (its length if they never do).

    Segments are walked by their lengths, because a thumbnail inside one has an end marker of its own. Within
    compressed pixels 0xFF is always followed by 0x00 or a restart marker, so an end marker is the end.
    """
    position = len(_JPEG_START)
    while position + 4 <= len(data):
        marker = data[position : position + 2]
        if marker == _JPEG_SCAN:
            return position
        if marker == b"\xff\xff":  # a fill byte before the marker
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data)
