"""Output of the decoding study: Markdown tables and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from stamped import origin

from swahr.draw.figure import FAINT_INK, INK, add_footer, new_figure, render

Row = Mapping[str, Any]

NAMES = {"coco": "COCO val", "crowdpose": "CrowdPose val"}
_COLOURS = {"coco": "#0072b2", "crowdpose": "#d55e00"}
_SIZE = (1300, 900)  # pixels
_REFINED = ("none", "quarter", "dark", "dark_scale_map")
_REFINED += ("stride_4_none", "stride_4_quarter", "stride_4_dark", "stride_4_scale_map")


def markdown(rows: Sequence[Row], growth: Sequence[Row], stamp: Mapping[str, Any]) -> str:
    """Return all tables of the study, each above its origin."""
    below = ["", f"{origin(stamp)}, seed {stamp['seed']}.", ""]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    parts = []
    for dataset in datasets:
        own = [row for row in rows if row["dataset"] == dataset]
        parts += [f"### {NAMES[dataset]}", "", *_variant_table(own), *below]
    parts += ["### What recovery fills in", "", *_recovery_table(rows), *below]
    return "\n".join([*parts, "### People found in growing crowds", "", *_growth_table(growth), *below])


def _variant_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| question | variant | images | AP | difference | error, medium | large | bias x, y | found |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["question"],
            f"`{row['variant']}`: {row['text']}",
            str(row["images"]),
            f"{100 * row['AP']:.2f}",
            _difference(row),
            f"{row['error_medium']:.3f}",
            f"{row['error_large']:.3f}",
            f"{row['bias_x']:+.3f}, {row['bias_y']:+.3f}",
            f"{row['found'] / max(1, row['people']):.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _difference(row: Row) -> str:
    if row["against"] == row["variant"]:
        return ""
    return f"{100 * row['difference']:+.2f} ± {100 * row['standard_error']:.2f} (`{row['against']}`)"


def _recovery_table(rows: Sequence[Row]) -> list[str]:
    kinds = ("right", "elsewhere", "unlabelled", "nobodys")
    lines = [
        "| annotations | variant | people | correct | wrong position | no label | in superfluous poses |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        filled = [int(row[f"filled_{kind}"]) for kind in kinds]
        if any(filled):
            cells = [NAMES[row["dataset"]], f"`{row['variant']}`", row["people"], *filled]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _growth_table(growth: Sequence[Row]) -> list[str]:
    keys = list(dict.fromkeys((row["dataset"], row["grouping"]) for row in growth))
    cells = {(row["dataset"], row["grouping"], row["people"]): row for row in growth}
    header = " | ".join(f"{NAMES[dataset]}, {rule}" for dataset, rule in keys)
    lines = [f"| people | {header} |", "|---" * (len(keys) + 1) + "|"]
    for people in dict.fromkeys(row["people"] for row in growth):
        found = (cells[*key, people] for key in keys)
        lines.append(
            f"| {people} | " + " | ".join(f"{row['found']:.1f} ± {row['spread']:.1f}" for row in found) + " |"
        )
    return lines


def draw_study(rows: Sequence[Row], growth: Sequence[Row], *, footer: str) -> npt.NDArray[np.uint8]:
    """Return a figure with AP differences, refinement errors, and people found in growing crowds."""
    figure = new_figure(*_SIZE)
    _draw_differences(figure.add_axes((0.27, 0.10, 0.33, 0.84)), rows)
    _draw_errors(figure.add_axes((0.68, 0.58, 0.30, 0.36)), rows)
    _draw_growth(figure.add_axes((0.68, 0.10, 0.30, 0.36)), growth)
    add_footer(figure, footer)
    return render(figure)


def _draw_differences(axes: Axes, rows: Sequence[Row]) -> None:
    names = [row["variant"] for row in _compared(rows, rows[0]["dataset"])]
    for shift, dataset in zip((-0.16, 0.16), dict.fromkeys(row["dataset"] for row in rows), strict=False):
        own = _compared(rows, dataset)
        axes.errorbar(
            [100 * row["difference"] for row in own], [names.index(row["variant"]) + shift for row in own],
            xerr=[100 * row["standard_error"] for row in own], fmt="o", color=_COLOURS[dataset],
            markersize=4, linewidth=1, label=NAMES[dataset],
        )  # fmt: skip
    labels = [
        f"{row['question']}: {row['text']}\nagainst {row['against']}"
        for row in _compared(rows, rows[0]["dataset"])
    ]
    axes.set_yticks(range(len(names)), labels, fontsize=7, color=INK)
    axes.invert_yaxis()
    axes.axvline(0, color=FAINT_INK, linewidth=0.8)
    _finish(axes, "What changes AP", "AP points more than the variant it is compared with (± standard error)")


def _compared(rows: Sequence[Row], dataset: str) -> list[Row]:
    return [row for row in rows if row["dataset"] == dataset and row["against"] != row["variant"]]


def _draw_errors(axes: Axes, rows: Sequence[Row]) -> None:
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = {row["variant"]: row for row in rows if row["dataset"] == dataset}
        names = [name for name in _REFINED if name in own]
        ticks = [_REFINED.index(name) for name in names]
        for size, marker in (("medium", "o"), ("large", "s")):
            axes.plot(
                [own[name][f"error_{size}"] for name in names], ticks, marker, color=_COLOURS[dataset],
                markersize=5, markerfacecolor="none", label=f"{NAMES[dataset]}, {size} people",
            )  # fmt: skip
    axes.set_yticks(range(len(_REFINED)), [name.replace("_", " ") for name in _REFINED], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    _finish(axes, "How far refinement is off", "median distance from the shown position, pixels of the input")


def _draw_growth(axes: Axes, growth: Sequence[Row]) -> None:
    for dataset in dict.fromkeys(row["dataset"] for row in growth):
        for rule, line in (("official", "--"), ("gated", "-")):
            own = [row for row in growth if row["dataset"] == dataset and row["grouping"] == rule]
            people, found, spread = ([row[key] for row in own] for key in ("people", "found", "spread"))
            axes.errorbar(
                people, found, yerr=spread, color=_COLOURS[dataset], linestyle=line, linewidth=1.2,
                label=f"{NAMES[dataset]}, {rule}",
            )  # fmt: skip
    most = max(row["people"] for row in growth)
    axes.plot([0, most], [0, most], color=FAINT_INK, linewidth=0.8)
    axes.set_ylabel("people found", color=INK, fontsize=9)
    _finish(axes, "Crowds grow: grouping alone", "people in the crowd (thin line: as many are found)")


def _finish(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
