"""Finished settings on disk, and the tables of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stamped import origin, write_csv

from swahr.files import read_json, write_json

Row = dict[str, Any]


class Store:
    """A folder with a file per finished setting, by `sweep.settings.Setting.identity`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, identity: str) -> bool:
        return self._file(identity).is_file()

    def __getitem__(self, identity: str) -> Row:
        row: Row = read_json(self._file(identity))
        return row

    def add(self, identity: str, row: Row) -> None:
        """Write a row; it is complete on disk when this returns."""
        write_json(self._file(identity), row)

    def _file(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"


def write_tables(folder: Path, rows: Sequence[Row], stamp: Mapping[str, Any]) -> None:
    """Write ``sweep.json``, ``sweep.csv`` and ``sweep.md``.

    Args:
        folder: the sweep's folder.
        rows: each with ``checkpoint``, ``changes``, and ``metrics`` or ``error``.
        stamp: see `swahr.provenance`.
    """
    write_json(folder / "sweep.json", {"rows": list(rows), "stamp": stamp})
    keys = list(dict.fromkeys(key for row in rows for key in row["changes"]))
    names = list(dict.fromkeys(name for row in rows for name in row.get("metrics", {})))
    plain = [_cells(row, keys, names) for row in rows]
    write_csv(folder / "sweep.csv", plain, stamp)
    header = list(plain[0])
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(map(_shown, row.values()))} |" for row in plain]
    (folder / "sweep.md").write_text("\n".join([*lines, "", f"{origin(stamp)}.", ""]), encoding="utf-8")


def _cells(row: Row, keys: Sequence[str], names: Sequence[str]) -> Row:
    changes = {key: row["changes"].get(key, "") for key in keys}
    metrics = {name: row.get("metrics", {}).get(name, "") for name in names}
    status = "failed" if "error" in row else "done"
    return {"checkpoint": row["checkpoint"], **changes, "status": status, **metrics}


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", r"\|")
