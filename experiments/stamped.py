"""Results that carry their provenance: a line of text, and CSV files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def origin(stamp: Mapping[str, Any]) -> str:
    """The provenance of measurements in one line: device, commit, PyTorch."""
    return f"{stamp['device']}, commit {stamp['commit']}, torch {stamp['libraries']['torch']}"


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]], stamp: Mapping[str, Any]) -> None:
    """Write rows of the same columns, below a comment line with the stamp as JSON."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {json.dumps(stamp)}\n")
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
