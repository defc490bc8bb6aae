"""The Markdown page of GPU results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Row
from benchmarks.report import markdown_table
from stamped import origin

_TITLES = {
    "tests": "Tests that need a GPU",
    "equality": "Results of the GPU and of the CPU",
    "speed": "Speed",
    "training": "Short trainings",
    "compiled": "Speed of compiled networks",
    "photographs": "Training on photographs",
}
_NOTES = {
    "equality": (
        "Largest absolute differences on the same inputs. Masks, tag indices, peaks, grouping, recovery and "
        "quarter offsets must be equal; the others agree up to rounding in float32."
    ),
    "speed": (
        "Medians over rounds in which the variants run alternately; quartiles in brackets. *Plain* is a slow "
        'version with the same result. For *losses alone*, "times ours" is their share of the training step.'
    ),
    "training": "AP on held-out crowds; losses are means over a tenth of the steps.",
}


def write_page(page: Path, result: Mapping[str, Any]) -> None:
    """Write a Markdown page about the result of `experiments/gpu.py`."""
    stamp = result["stamp"]
    lines = [
        "# Performance on a GPU",
        "",
        f"Written by `experiments/gpu.py` on {stamp['time']}: {origin(stamp)}, seed {stamp['seed']}, "
        f"{result['seconds']:.0f} seconds.",
        "",
        *_overview(result["parts"]),
    ]
    for name, part in result["parts"].items():
        lines += ["", f"## {_TITLES[name]}", *_part(name, part)]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _overview(parts: Mapping[str, Any]) -> Iterator[str]:
    yield "| part | result | checks passed | seconds (budget) |"
    yield "|---|---|---|---|"
    for name, part in parts.items():
        checks = part["checks"]
        passed = f"{sum(check['passed'] for check in checks)} of {len(checks)}"
        yield f"| {name} | {part['status']} | {passed} | {part['seconds']:.0f} ({part['budget']:.0f}) |"


def _part(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    if name in _NOTES:
        yield from ("", _NOTES[name])
    if part["status"] in ("timed out", "not run"):
        yield from ("", f"This part was {'stopped by its budget' if part['seconds'] else 'not run'}.")
    for check in part["checks"]:
        if not check["passed"]:
            yield from ("", f"**Failed: {check['name']}**", "", "```text", check["message"], "```")
    if part["error"]:
        yield from ("", "```text", part["error"].strip(), "```")
    checks = [check for check in part["checks"] if check["measurements"]]
    if name in ("speed", "compiled"):
        yield from _sections([Row(**check["measurements"]) for check in checks])
    elif checks:
        yield from ("", "| check | measurements |", "|---|---|")
        for check in checks:
            yield f"| {check['name']} | {_values(check['measurements'])} |"


def _sections(rows: Sequence[Row]) -> Iterator[str]:
    for section in dict.fromkeys(row.section for row in rows):
        yield from ("", f"### {section.capitalize()}", "")
        yield markdown_table([row for row in rows if row.section == section])


def _values(measurements: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in measurements.items()
    )
