"""Atomic file writing; reading and writing JSON."""

import gzip
import json
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    """Write a JSON file, creating missing folders; raises ValueError for NaN and infinity (JSON has none)."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


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
