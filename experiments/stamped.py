"""Results that carry their provenance: a line of text, and CSV files."""

from __future__ import annotations

import csv
import json
import re
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


def with_table(text: str, section: str, content: str, page: Path) -> str:
    """A page's text with other content between ``<!-- table: section -->`` and ``<!-- end -->``.

    Raises:
        ValueError: there are no markers for the section; the message names ``page``.
    """
    markers = re.compile(rf"(<!-- table: {re.escape(section)} -->\n).*?(<!-- end -->)", re.DOTALL)
    found = markers.search(text)
    if found is None:
        raise ValueError(f"{page}: expected a line '<!-- table: {section} -->' and, below, '<!-- end -->'")
    return f"{text[: found.start()]}{found[1]}\n{content}\n{found[2]}{text[found.end() :]}"
