"""Reading and writing image files as RGB arrays; truncated files raise an error."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from swahr.files import whole_file

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_ENDINGS = (".jpeg", ".jpg", ".png")
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # with its checksum


def read_image(path: str | Path, *, apply_orientation: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB image in a file of any format that OpenCV decodes.

    Grey and palette images are expanded to three channels, 16-bit values are divided by 256, and an alpha
    channel is dropped. The image is rotated by its EXIF orientation if ``apply_orientation`` is True.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, truncated or not an image.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        missing = path if path.parent.is_dir() else path.parent
        raise FileNotFoundError(
            f"{path}: expected an image file, but {missing} does not exist; check the images folder and the "
            "file name"
        ) from None
    if _is_truncated(data):
        raise ValueError(
            f"{path}: expected a whole image, but the file breaks off after {len(data)} bytes; fetch it again"
        )
    flags = cv2.IMREAD_COLOR | (0 if apply_orientation else cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if image is None:
        raise ValueError(
            f"{path}: expected an image that OpenCV decodes (JPEG, PNG, ...), got {len(data)} bytes that "
            f"start with {data[:8]!r}; replace or convert the file"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def write_image(path: str | Path, image: UInt8[np.ndarray, "H W 3"], *, jpeg_quality: int = 92) -> Path:
    """Write an RGB image atomically as ``.png``, ``.jpg`` or ``.jpeg``, and return its path.

    Missing folders are created. ``jpeg_quality`` is 1 to 100.

    Raises:
        ValueError: another suffix, or not an RGB image of uint8.
        OSError: the folder cannot be created or written to.
    """
    path = Path(path)
    check_image(image)
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"{path}: expected a name ending in one of {list(_ENDINGS)}; rename the output")
    png = path.suffix.lower() == ".png"
    options = [cv2.IMWRITE_PNG_COMPRESSION, 6] if png else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    try:
        with whole_file(path) as partial:
            partial.write_bytes(encoded.tobytes())
    except OSError as error:
        reason = f"cannot write the image ({error.strerror}); choose a folder you may write to"
        raise type(error)(error.errno, reason, str(path)) from error
    return path


def check_image(image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Raise ValueError unless ``image`` is ``(H, W, 3)`` of uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"expected an RGB image of shape (H, W, 3) and type uint8, got {image.shape} of {image.dtype}; "
            "swahr.read_image returns such arrays for all image files"
        )


def _is_truncated(data: bytes) -> bool:
    """Whether the end marker is missing; OpenCV silently fills the rest of such an image with grey."""
    if data.startswith(_JPEG_START):
        return data.find(_JPEG_END, _first_scan(data)) < 0
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    return not data


def _first_scan(data: bytes) -> int:
    """The offset of a JPEG's compressed pixels, or the file's length if there are none.

    Header segments are skipped by their lengths, because an embedded thumbnail has its own end marker. In
    compressed pixels, 0xFF is followed by 0x00 or a restart marker, so the next end marker is the file's.
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
