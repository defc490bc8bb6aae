"""Atomic file writing, journals, and reading and writing JSON."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

_log = logging.getLogger(__name__)


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
    """The value in a ``.json`` or ``.json.gz`` file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not valid JSON.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: expected JSON, but it does not parse ({error}); fetch it again") from error
