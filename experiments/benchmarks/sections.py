"""The sections of the benchmark by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks.decoding import decode_cases
from benchmarks.end_to_end import end_to_end_cases
from benchmarks.forward import forward_cases
from benchmarks.limits import limit_cases
from benchmarks.loading import loader_cases
from benchmarks.losses import loss_cases
from benchmarks.measure import Case, Row, measure
from benchmarks.scoring import evaluation_cases
from benchmarks.second_stage import second_stage_cases
from benchmarks.step import step_cases
from benchmarks.target_encoding import target_cases

SECTIONS: dict[str, Callable[[DictConfig, Sequence[int], torch.device], Iterator[Case]]] = {
    "limits": limit_cases,
    "forward": forward_cases,
    "decode": decode_cases,
    "targets": target_cases,
    "losses": loss_cases,
    "step": step_cases,
    "loader": loader_cases,
    "end_to_end": end_to_end_cases,
    "second_stage": second_stage_cases,
    "evaluation": evaluation_cases,
}


def check_sections(sections: Sequence[str]) -> None:
    """Check the names of sections.

    Raises:
        ValueError: one of them is unknown.
    """
    if unknown := set(sections) - set(SECTIONS):
        raise ValueError(f"sections={sorted(unknown)}: expected some of {list(SECTIONS)}")


def measure_sections(
    config: DictConfig, sections: Sequence[str], device: torch.device, console: Console
) -> Iterator[Row]:
    """Yield the rows of all cases of the sections, each as soon as it is measured.

    Args:
        config: as in ``conf/benchmark.yaml``.
        sections: names, in the order of measurement.
        device: the device to measure.
        console: shows the running case.

    Raises:
        ValueError: a fast and the plain version differ.
    """
    for section in sections:
        for case in SECTIONS[section](config, list(config.people), device):
            with console.status(f"{case.section}: {case.name}"):
                rows = measure(case, rounds=config.rounds, seconds=config.seconds, device=device)
            yield from rows
