"""Files appear whole or not at all, and what was written before an error stays."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from swahr.files import Journal, whole_file, write_json


class FullDisk:
    """A file whose disk is full after so many bytes."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        written = self.file.write(data[: self.room])
        self.room -= written
        if data and not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_each_line_of_a_journal_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    with Journal(path) as journal:
        assert path.read_text() == ""
        for value in ({"a": [1.5]}, ["\udcff ü"]):
            journal.append(value)
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": [1.5]}, ["\udcff ü"]]
        with pytest.raises(ValueError, match="not JSON compliant"):
            journal.append(float("nan"))
        with pytest.raises(OSError, match=r"cannot write \(File exists\).*found\.jsonl"):
            Journal(path)
        journal.remove()
        assert not path.exists()


def test_a_journal_on_a_full_disk_holds_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    with Journal(path) as journal:
        journal.append({"id": 1})
        journal._file = FullDisk(journal._file, room=5)
        with pytest.raises(OSError, match=r"No space left on device\); free space .*found\.jsonl"):
            journal.append({"id": 2})
        assert path.read_text() == '{"id": 1}\n'
        journal._file = journal._file.file
        journal.append({"id": 3})
    assert path.read_text() == '{"id": 1}\n{"id": 3}\n'


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".json")
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}


def test_errors_in_writing_name_the_file_and_leave_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, [1])
    for value, kind in ((float("inf"), ValueError), ([np.float32(1)], TypeError)):
        with pytest.raises(kind, match=r"x\.json: expected finite numbers and plain values"):
            write_json(path, value)

    def fill_the_disk() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"x\.json") as caught:
        fill_the_disk()
    assert caught.value.errno == errno.ENOSPC
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match=r"choose a folder you may write to: .*child\.json"):
        write_json(path / "child.json", [1])
