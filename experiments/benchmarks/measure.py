"""Timing variants of one operation side by side, after a comparison of their results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Action = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One operation to be timed, in several variants.

    Attributes:
        section: its section of the page.
        name: the operation and its sizes.
        people: the number of people in the data, or 0 if it is irrelevant.
        variants: by name. The first is ours; ratios are relative to it.
        compare: called with the results of ours and of ``plain``; raises AssertionError if they differ.
        notes: further measurements of ours, such as the peak memory.
        work: amount of work per call, by unit such as images; reported as a rate of each variant.
        bounds: goals for the ratios of variants, by their names; rows say whether they are met.
    """

    section: str
    name: str
    people: int
    variants: Mapping[str, Action]
    compare: Callable[[Any, Any], None] | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Times of one variant in milliseconds, and their ratios to the times of ours in the same round.

    Medians, with lower and upper quartiles. ``notes`` holds rates and other measurements by name, and
    ``bound`` the goal for the ratio, if there is one.
    """

    section: str
    name: str
    people: int
    variant: str
    rounds: int
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    notes: Mapping[str, float]
    bound: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        return {**vars(self), "notes": dict(self.notes)}

    def notes_text(self) -> str:
        """The notes in one line, with three digits, and whether the ratio is within its bound."""
        texts = [f"{name} {value:.3g}" for name, value in self.notes.items()]
        if self.bound is not None:
            verdict = "within" if self.ratio <= self.bound else "above"
            texts.append(f"**{verdict} the bound** of {self.bound:.3g}")
        return "; ".join(texts)


def measure(case: Case, *, rounds: int, seconds: float, device: torch.device) -> list[Row]:
    """Compare the variants' results, then time them in turn; return medians and quartiles.

    Args:
        case: the operation.
        rounds: maximum number of rounds; each runs every variant once.
        seconds: time limit, checked after each round; there is at least one round.
        device: a GPU is synchronised before the clock is read.

    Raises:
        ValueError: ours and the plain variant differ.
    """
    results = {name: action() for name, action in case.variants.items()}
    if case.compare is not None and "plain" in results:
        ours = next(iter(results.values()))
        try:
            case.compare(ours, results["plain"])
        except AssertionError as error:
            raise ValueError(
                f"{case.section}, {case.name}, {case.people} people: the fast and the plain version differ, "
                f"so no time is reported:\n{error}"
            ) from error
    results.clear()
    times: dict[str, list[float]] = {name: [] for name in case.variants}
    start = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - start > seconds:
            break
        for name, action in case.variants.items():
            times[name].append(_elapsed(action, device))
    return [_row(case, name, times) for name in case.variants]


def _elapsed(action: Action, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1000


def _row(case: Case, variant: str, times: Mapping[str, list[float]]) -> Row:
    own, ours = times[variant], next(iter(times.values()))
    low, median, high = _quartiles(own)
    ratio_low, ratio, ratio_high = _quartiles([a / b for a, b in zip(own, ours, strict=True)])
    notes = {f"{unit}/s": amount / median * 1000 for unit, amount in case.work.items()}
    if own is ours:
        notes |= case.notes
    return Row(
        section=case.section,
        name=case.name,
        people=case.people,
        variant=variant,
        rounds=len(own),
        median_ms=median,
        low_ms=low,
        high_ms=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        notes=notes,
        bound=case.bounds.get(variant),
    )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
