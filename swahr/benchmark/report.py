"""Figures as a table file, and as tables in a page."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from swahr.benchmark.measure import Row

_HEADER = ("what", "people", "variant", "median, ms (quartiles)", "times ours (quartiles)", "rounds", "")


def write_csv(file: Path, rows: Sequence[Row], stamp: Mapping[str, Any]) -> None:
    """Write the figures; the first line, a comment, says where they come from."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {json.dumps(stamp)}\n")
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def renew_page(page: Path, rows: Sequence[Row], origin: str) -> None:
    """Replace a page's tables: what stands between ``<!-- table: <section> -->`` and ``<!-- end -->``.

    Args:
        page: a Markdown file.
        rows: the figures; sections without any keep their table.
        origin: what stands under each table: the machine and the commit.

    Raises:
        ValueError: the page has no place for a section.
    """
    text = page.read_text(encoding="utf-8")
    for section in dict.fromkeys(row.section for row in rows):
        table = _table([row for row in rows if row.section == section])
        place = re.compile(rf"(<!-- table: {re.escape(section)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(
                f"{page}: expected a line '<!-- table: {section} -->' and, below, '<!-- end -->'"
            )
        text = place.sub(lambda m, t=table: f"{m[1]}\n{t}\n\n{origin}.\n\n{m[2]}", text)  # type: ignore[misc] # a lambda of two is no Callable of one
    page.write_text(text, encoding="utf-8")


def _table(rows: Sequence[Row]) -> str:
    lines = [_HEADER, ("---",) * len(_HEADER)]
    lines += [
        (
            row.name,
            str(row.people or ""),
            row.variant,
            _spread(row.median_ms, row.low_ms, row.high_ms),
            "1"
            if row.ratio == row.ratio_low == row.ratio_high == 1
            else _spread(row.ratio, row.ratio_low, row.ratio_high),
            str(row.rounds),
            row.notes,
        )
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(median: float, low: float, high: float) -> str:
    return f"{median:.3g} ({low:.3g} to {high:.3g})"
