"""Image files, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

_ENCODING = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 6],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 92],
}


def write_image(path: str | Path, image: UInt8[np.ndarray, "H W 3"]) -> Path:
    """Write an RGB image as PNG or JPEG, by the name's ending; missing folders are made.

    The file appears under its name only when it is complete.

    Raises:
        ValueError: the name ends in something else, or the image is empty.
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    check_image(image)
    if path.suffix.lower() not in _ENCODING:
        raise ValueError(f"{path}: expected a name ending in one of {sorted(_ENCODING)}; rename the output")
    _, encoded = cv2.imencode(
        path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODING[path.suffix.lower()]
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, encoded.tobytes())
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write the image ({error.strerror}); choose a folder you may write to",
            str(path),
        ) from error
    return path


def check_image(image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Refuse what is not an RGB image ``(H, W, 3)`` of bytes."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"expected an RGB image (H, W, 3) of uint8, got {image.shape} of {image.dtype}")


def _write_whole(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes private files; pictures get the permissions any new file would have.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
