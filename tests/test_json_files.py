"""JSON in every encoding that tools write, and integers in every spelling."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from swahr.files import integer, read_json

VALUE = {"file_name": "Zo\u00eb.jpg", "id": 2**60 + 1}
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a"])
@pytest.mark.parametrize("compress", [False, True])
def test_json_in_any_encoding(tmp_path: Path, encoding: str, name: str, compress: bool) -> None:
    data = json.dumps(VALUE, ensure_ascii=False).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if compress else data)
    assert read_json(tmp_path / name) == VALUE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        '"\u00eb"'.encode("latin-1"),
        b"[" * 100_000,
        b"9" * 5000,
        gzip.compress(b"[1, 2]", mtime=0)[:-3],
        b"\x1f\x8bno gzip",
        gzip.compress(b"[" + b"1, " * 9999 + b"1]", mtime=0)[:10] + b"\xff" * 50,
    ],
)
def test_files_that_are_no_json(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.json: expected JSON, but it does not parse .*; fetch it again"):
        read_json(path)


def test_a_pointer_of_git_lfs_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_text(LFS_POINTER)
    with pytest.raises(
        ValueError, match=r"a\.json\.gz: expected JSON, got a pointer of Git LFS.*git lfs pull"
    ):
        read_json(path)


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (-3, -3), (3.0, 3), ("3", 3), (" +3 ", 3), (2.0**53, 2**53), (2**62 + 1, 2**62 + 1),
     (str(2**62 + 1), 2**62 + 1), ("-0", 0), ("007", 7)],
)  # fmt: skip
def test_integers(value: Any, number: int) -> None:
    assert integer(value, "here") == number
    assert type(integer(value, "here")) is int


@pytest.mark.parametrize(
    "value",
    [None, True, False, "", "x", "3.0", "1e3", "\u0663", "9" * 30, 3.5, 2.0**54, float("nan"), float("inf"),
     2**63, -(2**63), [3], {}],
)  # fmt: skip
def test_values_that_are_no_integers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"here: expected an integer, got .*; correct it"):
        integer(value, "here")
