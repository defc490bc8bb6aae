"""Times every fast implementation beside a plain version with the same result; `--help` lists settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.bars import draw_ratios
from benchmarks.measure import Row
from benchmarks.report import update_page
from benchmarks.sections import check_sections, measure_sections
from omegaconf import DictConfig
from rich.console import Console
from stamped import origin, write_csv

from swahr.cli.command import fresh_folder, report, run_command
from swahr.files import write_json
from swahr.images import write_image
from swahr.provenance import provenance


def benchmark(config: DictConfig) -> list[Row]:
    """Measure ``config.sections``; write measurements, a chart and, if ``config.page`` is set, its tables.

    Raises:
        ValueError: a section is unknown, or results differ from those of the plain version.
    """
    check_sections(config.sections)
    folder = fresh_folder(config.output)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    console = Console(stderr=True)
    rows = list(measure_sections(config, config.sections, torch.device(config.device), console))
    stamp = provenance(seed=config.seed)
    ratios = _ratios(rows)
    _write(folder, rows, ratios, stamp)
    if config.page is not None:
        update_page(Path(config.page), rows, origin(stamp))
    report({"output": str(folder), "times as long as ours": ratios})
    return rows


def _ratios(rows: Sequence[Row]) -> dict[str, float]:
    return {
        f"{row.name}{f', {row.people} people' if row.people else ''}: {row.variant}": row.ratio
        for row in rows
        if row.variant != "ours"
    }


def _write(folder: Path, rows: Sequence[Row], ratios: Mapping[str, float], stamp: Mapping[str, Any]) -> None:
    texts = [row.to_dict() | {"notes": row.notes_text()} for row in rows]
    write_csv(folder / "benchmark.csv", texts, stamp)
    write_json(
        folder / "benchmark.json", {"measurements": [row.to_dict() for row in rows], "stamp": dict(stamp)}
    )
    title = "Time of other variants as a multiple of ours"
    write_image(folder / "benchmark.png", draw_ratios(ratios, title=title, footer=origin(stamp)))


if __name__ == "__main__":
    run_command("benchmark", benchmark)
