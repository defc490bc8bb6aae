"""Atomic file writing, journals, and reading and writing JSON."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import textwrap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from reprlib import repr as shown
from typing import Any
from uuid import uuid4

_log = logging.getLogger(__name__)

_GZIP_START, _LFS_START = b"\x1f\x8b", b"version https://git-lfs"


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that is renamed to ``path`` when the block ends without an error.

    Missing folders are created. After an error, an existing file at ``path`` is unchanged. The temporary path
    has the same suffix, from which some libraries infer the format.

    Raises:
        OSError: the folder cannot be created or written to; the message names ``path``.
    """
    path = Path(path)
    partial = path.with_name(f".{os.getpid()}.{uuid4().hex[:8]}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> OSError:
    """The error with the path that was to be written, and what to do."""
    reason = f"cannot write ({error.strerror or error}); free space or choose a folder you may write to"
    return OSError(error.errno, reason, str(path))


class Journal:
    """A file of JSON lines. Each line is complete on disk before the next one begins, whatever ends the run.

    Args:
        path: the file to create; its folder must exist.

    Raises:
        OSError: the file cannot be created; or, in `append`, a line cannot be written and is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise _unwritten(path, error) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is not None:
            _log.warning("what was found so far is in %s", self.path)

    def append(self, value: Any) -> None:
        """Add a line; raises ValueError for NaN and infinity."""
        line, start = json.dumps(value, allow_nan=False).encode() + b"\n", self._file.tell()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.truncate(self._file.seek(start))
            raise _unwritten(self.path, error) from error

    def remove(self) -> None:
        """Delete the file, when its content is elsewhere."""
        self._file.close()
        self.path.unlink()


@contextmanager
def unwritable_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the libraries that write weights become an OSError with the file's name."""
    try:
        yield
    except Exception as error:  # libraries have errors of their own
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise OSError(
            f"{path}: cannot be written ({reason}), and an earlier file there is unchanged; free space on "
            "the disk, or choose another output=…"
        ) from error


def check_downloaded(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if a binary file is empty, or what a failed download leaves in its place."""
    with Path(path).open("rb") as file:
        start = file.read(64).lstrip().lower()
    left = {
        b"version https://git-lfs": "a Git LFS pointer",
        b"<!doctype html": "a web page",
        b"<html": "a web page",
    }
    found = next((name for beginning, name in left.items() if start.startswith(beginning)), None)
    if found or not start:
        advice = "run `git lfs pull`" if found == "a Git LFS pointer" else "download it again"
        raise ValueError(f"{path}: expected the file itself, got {found or 'an empty file'}; {advice}")


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file, creating missing folders.

    Raises:
        OSError: the file cannot be written.
        TypeError: a value is not of a type that JSON has.
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: expected finite numbers and plain values to write ({error})") from error
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


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
