"""Reading and writing image files as RGB arrays; truncated files raise an error."""

import struct
from collections.abc import Set
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from swahr.files import whole_file

MAX_PIXELS = 2**28
"""Images with more pixels (16,384 x 16,384) are refused; decoding them would take gigabytes."""

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_JPEG_FRAMES = {b"\xff" + bytes([n]) for n in range(0xC0, 0xD0) if n not in (0xC4, 0xC8, 0xCC)}
_ENDINGS = (".jpeg", ".jpg", ".png")
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # with its checksum
_HEADERS = {_PNG_START: (">II", 16), b"GIF8": ("<HH", 6), b"BM": ("<ii", 18)}
"""Format and offset of (width, height), by the beginning of the file."""


def read_image(path: str | Path, *, apply_orientation: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB image in a file of any format that OpenCV decodes.

    Grey and palette images are expanded to three channels, 16-bit values are divided by 256, and an alpha
    channel is dropped. The image is rotated by its EXIF orientation if ``apply_orientation`` is True. An
    animation's first image is returned.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, truncated, not an image, or has more than `MAX_PIXELS` pixels.
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
    _check_pixels(path, _size_in_header(data))
    flags = cv2.IMREAD_COLOR | (0 if apply_orientation else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:  # most often more pixels than OpenCV decodes, or too little memory
        raise ValueError(
            f"{path}: OpenCV cannot decode the image ({' '.join(str(error).split())}); shrink or convert it"
        ) from error
    if image is None:
        raise ValueError(
            f"{path}: expected an image that OpenCV decodes (JPEG, PNG, ...), got {len(data)} bytes that "
            f"start with {data[:12]!r}; replace or convert the file"
        )
    height, width = image.shape[:2]
    _check_pixels(path, (width, height))
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
    with whole_file(path) as partial:
        partial.write_bytes(encoded.tobytes())
    return path


def check_image(image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Raise ValueError unless ``image`` is ``(H, W, 3)`` of uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"expected an RGB image of shape (H, W, 3) and type uint8, got {image.shape} of {image.dtype}; "
            f"{_remedy(image)}"
        )


def _remedy(image: np.ndarray) -> str:
    """How to make an RGB image of an array."""
    if image.size == 0:
        return "it has no pixels"
    if image.ndim == 2:
        return "a grey image becomes RGB by np.stack([image] * 3, axis=-1)"
    if image.ndim == 4:
        return "pass a batch's images one by one"
    if image.ndim == 3 and image.shape[0] == 3 and image.shape[2] != 3:
        return "move the channels to the end by image.transpose(1, 2, 0)"
    if image.ndim == 3 and image.shape[2] == 4:
        return "drop the alpha channel by image[..., :3]"
    if image.ndim == 3 and image.dtype.kind == "f":
        return "if values are in [0, 1], convert them by (255 * image).round().astype(np.uint8)"
    return "swahr.read_image returns such arrays for all image files"


def _check_pixels(path: Path, size: tuple[int, int] | None) -> None:
    if size is not None and abs(size[0] * size[1]) > MAX_PIXELS:
        raise ValueError(
            f"{path}: expected at most {MAX_PIXELS:,} pixels, got {size[0]} x {size[1]}; shrink the image"
        )


def _size_in_header(data: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG, PNG, GIF or BMP; None for other files."""
    is_jpeg = data.startswith(_JPEG_START)
    if is_jpeg:
        layout, offset = ">HH", 5 + _find_segment(data, _JPEG_FRAMES)
    else:
        layout, offset = next((at for start, at in _HEADERS.items() if data.startswith(start)), ("", 0))
    if not layout or offset + struct.calcsize(layout) > len(data):
        return None
    first, second = struct.unpack_from(layout, data, offset)
    return (second, first) if is_jpeg else (first, second)


def _is_truncated(data: bytes) -> bool:
    """Whether the end marker is missing; OpenCV silently fills the rest of such an image with grey."""
    if data.startswith(_JPEG_START):
        return data.find(_JPEG_END, _find_segment(data, {_JPEG_SCAN})) < 0
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    return not data


def _find_segment(data: bytes, markers: Set[bytes]) -> int:
    """The offset of a JPEG's first segment with one of the markers, or the file's length if there is none.

    Header segments are skipped by their lengths, because an embedded thumbnail has its own end marker. In
    compressed pixels, 0xFF is followed by 0x00 or a restart marker, so the next end marker is the file's.
    """
    position = len(_JPEG_START)
    while position + 4 <= len(data):
        marker = data[position : position + 2]
        if marker in markers:
            return position
        if marker == b"\xff\xff":  # a fill byte before the marker
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data)
