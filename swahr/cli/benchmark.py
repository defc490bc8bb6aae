"""``swahr benchmark``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from swahr.benchmark.decoding import decode_cases
from swahr.benchmark.end_to_end import end_to_end_cases
from swahr.benchmark.evaluation import evaluation_cases
from swahr.benchmark.forward import forward_cases
from swahr.benchmark.limits import limit_cases
from swahr.benchmark.loading import loader_cases
from swahr.benchmark.measure import Case, Row, measure
from swahr.benchmark.report import renew_page, write_csv
from swahr.benchmark.step import step_cases
from swahr.benchmark.training import loss_cases, target_cases
from swahr.cli.command import fresh_folder, report, run_command, write_json
from swahr.draw import draw_ratios, write_image
from swahr.stamp import make_stamp

SECTIONS: dict[str, Callable[[DictConfig, Sequence[int], torch.device], Iterator[Case]]] = {
    "limits": limit_cases,
    "forward": forward_cases,
    "decode": decode_cases,
    "targets": target_cases,
    "losses": loss_cases,
    "step": step_cases,
    "loader": loader_cases,
    "end_to_end": end_to_end_cases,
    "evaluation": evaluation_cases,
}


def benchmark(config: DictConfig) -> list[Row]:
    """Measure the sections, and write the figures, their chart and, if asked for, a page's tables.

    Raises:
        ValueError: there is no such section, or a fast path differs from the plain one.
    """
    if unknown := set(config.sections) - set(SECTIONS):
        raise ValueError(f"sections={sorted(unknown)}: expected some of {list(SECTIONS)}")
    folder, device = fresh_folder(config.output), torch.device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    console = Console(stderr=True)
    rows: list[Row] = []
    for section in config.sections:
        for case in SECTIONS[section](config, list(config.people), device):
            with console.status(f"{case.section}: {case.name}"):
                rows += measure(case, rounds=config.rounds, seconds=config.seconds, device=device)
    stamp = make_stamp(seed=config.seed)
    write_csv(folder / "benchmark.csv", rows, stamp)
    write_json(folder / "benchmark.json", {"figures": [vars(row) for row in rows], "stamp": stamp})
    footer = f"{stamp['device']}, commit {stamp['commit']}, torch {stamp['libraries']['torch']}"
    ratios = {
        f"{row.name}{f', {row.people} people' if row.people else ''}: {row.variant}": row.ratio
        for row in rows
        if row.variant != "ours"
    }
    chart = draw_ratios(ratios, title="How many times as long as ours other variants take", footer=footer)
    write_image(folder / "benchmark.png", chart)
    if config.page is not None:
        renew_page(Path(config.page), rows, footer)
    report({"output": str(folder), "times as long as ours": ratios})
    return rows


def main() -> None:
    """Run the command line."""
    run_command("benchmark", benchmark)
