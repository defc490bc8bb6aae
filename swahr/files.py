"""Atomic file writing; reading and writing JSON."""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shown
from typing import Any

_GZIP_START, _LFS_START = b"\x1f\x8b", b"version https://git-lfs"


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that is renamed to ``path`` when the block ends without an error.

    Missing folders are created. After an error, an existing file at ``path`` is unchanged. The temporary path
    has the same suffix, from which some libraries infer the format.

    Raises:
        OSError: the folder cannot be created or written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file, creating missing folders; raises ValueError for NaN and infinity (JSON has none)."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file, which may be compressed by gzip and encoded in UTF-8, UTF-16 or UTF-32.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not valid JSON.
    """
    data = Path(path).read_bytes()
    if data.startswith(_LFS_START):
        raise ValueError(
            f"{path}: expected JSON, got a pointer of Git LFS, which stands for the file; fetch the file "
            "itself with `git lfs pull`"
        )
    try:
        return json.loads(gzip.decompress(data) if data.startswith(_GZIP_START) else data)
    except (ValueError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected JSON, but it does not parse ({error}); fetch it again") from error


def integer(value: object, where: str) -> int:
    """An integer in JSON, which may be written as 3, 3.0 or "3"; else raises ValueError.

    A fraction above 2^53 is refused, because it may stand for several integers. ``where`` begins the error.
    """
    number = value
    if isinstance(number, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", number.strip()):
        number = int(number)
    if isinstance(number, float) and number.is_integer() and abs(number) <= 2**53:
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or abs(number) >= 2**63:
        raise ValueError(f"{where}: expected an integer, got {shown(value)}; correct it")
    return number
