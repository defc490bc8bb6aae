"""Benchmarks on the GPU: decoding, the forward pass and the training step, eager and compiled."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

import torch
from benchmarks.measure import Row, measure
from benchmarks.sections import SECTIONS
from omegaconf import DictConfig

from gpu_suite.checks import Check


def measure_eager(config: DictConfig, device: torch.device) -> Iterator[Check]:
    """The sections ``config.sections`` without compiled networks."""
    config = config.copy()
    config.forward.compile, config.step.modes = [], ["eager"]
    return _measure(config, config.sections, device)


def measure_compiled(config: DictConfig, device: torch.device) -> Iterator[Check]:
    """The training step and the forward pass, with compiled networks only."""
    config = config.copy()
    config.forward.eager, config.forward.others, config.step.modes = [], [], ["compiled"]
    return _measure(config, ("step", "forward"), device)


def _measure(config: DictConfig, sections: Sequence[str], device: torch.device) -> Iterator[Check]:
    """The checks of all sections; an error ends only its section."""
    # As in training.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    for section in sections:
        try:
            yield from _measure_section(config, section, device)
        except Exception:
            yield Check(section, passed=False, message=traceback.format_exc())
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _measure_section(config: DictConfig, section: str, device: torch.device) -> Iterator[Check]:
    """A check per row; a case whose results differ from the plain version's becomes a failed check."""
    for case in SECTIONS[section](config, list(config.people), device):
        try:
            rows = measure(case, rounds=config.rounds, seconds=config.seconds, device=device)
        except ValueError as error:
            yield Check(f"{case.section}: {case.name}", passed=False, message=str(error))
            continue
        for row in rows:
            yield Check(_name(row), passed=True, measurements=row.to_dict())


def _name(row: Row) -> str:
    people = f", {row.people} people" if row.people else ""
    return f"{row.section}: {row.name}{people}: {row.variant}"
