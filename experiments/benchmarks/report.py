"""Measurements as tables in a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stamped import with_table

from benchmarks.measure import Row

_HEADER = ("what", "people", "variant", "median, ms (quartiles)", "times ours (quartiles)", "rounds", "")


def update_page(page: Path, rows: Sequence[Row], origin: str) -> None:
    """Replace a page's tables: the text between ``<!-- table: <section> -->`` and ``<!-- end -->``.

    Args:
        page: a Markdown file.
        rows: the measurements; sections without rows keep their table.
        origin: the line below each table: device, commit, PyTorch.

    Raises:
        ValueError: the page has no markers for a section.
    """
    text = page.read_text(encoding="utf-8")
    for section in dict.fromkeys(row.section for row in rows):
        table = markdown_table([row for row in rows if row.section == section])
        text = with_table(text, section, f"{table}\n\n{origin}.\n", page)
    page.write_text(text, encoding="utf-8")


def markdown_table(rows: Sequence[Row]) -> str:
    """One line for each row, below a header."""
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
            row.notes_text(),
        )
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(median: float, low: float, high: float) -> str:
    return f"{median:.3g} ({low:.3g} to {high:.3g})"
