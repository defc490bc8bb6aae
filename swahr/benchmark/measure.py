"""Timing variants of one thing side by side, after making sure that they say the same."""

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
    """One thing to be timed, in several variants.

    Attributes:
        section: the page's section that it belongs to.
        name: what is done.
        people: how many people are in it.
        variants: by name; the first is ours, and ratios are times as large as its.
        compare: called with the results of ours and of ``plain``; raises ValueError where they differ.
        notes: what else is known of ours, such as the peak memory.
        work: what a call does, by unit, such as images; becomes a rate of each variant.
    """

    section: str
    name: str
    people: int
    variants: Mapping[str, Action]
    compare: Callable[[Any, Any], None] | None = None
    notes: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """How long one variant took, in milliseconds, and how many times as long as ours, round by round."""

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
    notes: str


def measure(case: Case, *, rounds: int, seconds: float, device: torch.device) -> list[Row]:
    """Compare the variants' results, then time them in turn, and say medians and quartiles.

    Args:
        case: what to time.
        rounds: how often, at most.
        seconds: stop early after about so long; there is at least one round.
        device: is waited for before a clock is read.

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
                f"{case.section}, {case.name}, {case.people} people: the fast path and the plain one differ, "
                f"so that no time is given:\n{error}"
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
        notes="; ".join(f"{name} {value:.3g}" for name, value in notes.items()),
    )


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
