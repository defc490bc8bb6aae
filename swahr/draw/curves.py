"""Training curves from the ``metrics.csv`` that Lightning's CSV logger writes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swahr.draw.figure import FAINT_INK, INK, add_footer, new_figure, render
from swahr.draw.image_file import write_image

Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Optimiser steps, and the values logged at them."""

_SIZE = (1000, 600)  # width and height in pixels
_COLOURS = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
_SMOOTHING_SPAN = 0.04  # of the whole run, for the exponential moving average


def draw_curves(metrics_csv: str | Path, folder: str | Path, *, footer: str = "") -> list[Path]:
    """Draw loss and accuracy curves.

    ``loss.png``: every ``train/`` column against the optimiser step, raw (faint) and smoothed, log axis.
    ``ap.png``: every ``val/`` column (AP, AR and their variants, as fractions).
    A figure without data is not drawn.

    Args:
        metrics_csv: the file that `lightning.pytorch.loggers.CSVLogger` writes.
        folder: where the pictures go.
        footer: small print, e.g. the run's commit and seed.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds neither ``train/`` nor ``val/`` columns.
    """
    series = read_metrics(metrics_csv)
    losses = _with_prefix(series, "train/")
    accuracies = {
        name: (steps, values)
        for name, (steps, values) in _with_prefix(series, "val/").items()
        if name[:2] in ("AP", "AR") and values.min() >= 0  # COCO says -1 where no person is of that kind
    }
    if not losses and not accuracies:
        raise ValueError(
            f"{metrics_csv}: expected values in columns 'train/...' or 'val/AP...', got {sorted(series)}; "
            "point to the metrics.csv of a training run"
        )
    written = []
    if losses:
        written.append(write_image(Path(folder) / "loss.png", render(_loss_figure(losses, footer))))
    if accuracies:
        written.append(write_image(Path(folder) / "ap.png", render(_accuracy_figure(accuracies, footer))))
    return written


def read_metrics(metrics_csv: str | Path) -> dict[str, Series]:
    """Read a metrics file into one series per column; cells that were not logged are empty and skipped."""
    path = Path(metrics_csv)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the metrics.csv of a training run, found no such file")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "step" not in rows[0]:
        raise ValueError(f"{path}: expected a column 'step', got {sorted(rows[0])}; is it a metrics.csv?")
    series = {}
    for name in rows[0] if rows else ():
        points = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        if points and name not in ("step", "epoch"):
            steps, values = np.array(sorted(points)).T
            series[name] = (steps, values)
    return series


def _with_prefix(series: Mapping[str, Series], prefix: str) -> dict[str, Series]:
    """The columns under ``prefix``, without it, the total first, then in order of size."""
    found = {name.removeprefix(prefix): values for name, values in series.items() if name.startswith(prefix)}
    return dict(
        sorted(found.items(), key=lambda item: (item[0] not in ("loss", "AP"), -float(item[1][1][-1])))
    )


def _loss_figure(losses: Mapping[str, Series], footer: str) -> Figure:
    figure, axes = _axes("Training losses", "loss (weighted, mean over the batch)", footer)
    for colour, (name, (steps, values)) in zip(_cycle(len(losses)), losses.items(), strict=True):
        positive = values > 0  # a log axis has no place for zeros
        if positive.any():
            width = 2.2 if name == "loss" else 1.4
            axes.plot(steps[positive], values[positive], color=colour, alpha=0.18, linewidth=0.8)
            axes.plot(
                steps[positive], _smooth(values[positive]), color=colour, linewidth=width, label=_label(name)
            )
    axes.set_yscale("log")
    _finish(axes)
    return figure


def _accuracy_figure(accuracies: Mapping[str, Series], footer: str) -> Figure:
    figure, axes = _axes("Validation", "AP, AR (fraction, 0 to 1)", footer)
    for colour, (name, (steps, values)) in zip(_cycle(len(accuracies)), accuracies.items(), strict=True):
        main = name == "AP"
        axes.plot(
            steps, values, color=colour, marker="o", linestyle="--" if name.startswith("AR") else "-",
            linewidth=2.4 if main else 1.2, markersize=4 if main else 2.5, label=f"{name}  {values[-1]:.3f}",
        )  # fmt: skip
    axes.set_ylim(
        0.0, min(1.0, 0.02 + 1.08 * max(float(np.max(values)) for _, values in accuracies.values()))
    )
    _finish(axes)
    return figure


def _axes(title: str, y_label: str, footer: str) -> tuple[Figure, Axes]:
    figure = new_figure(*_SIZE)
    axes = figure.add_axes((0.08, 0.125, 0.70, 0.795))
    axes.set_title(title, loc="left", fontsize=12, color=INK)
    axes.set_xlabel("optimiser step", color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT_INK)
    axes.tick_params(colors=INK, labelsize=9)
    if footer:
        add_footer(figure, footer)
    return figure, axes


def _finish(axes: Axes) -> None:
    axes.margins(x=0.01)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, labelcolor=INK)


def _label(name: str) -> str:
    return "total" if name == "loss" else name.replace("_", " ")


def _cycle(count: int) -> Sequence[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Exponential moving average that starts at the first values' mean, without the zero-start bias."""
    decay = math.exp(-1.0 / max(1.0, _SMOOTHING_SPAN * len(values)))
    smoothed = np.empty_like(values)
    total = weight = 0.0
    for i, value in enumerate(values):
        total, weight = decay * total + value, decay * weight + 1.0
        smoothed[i] = total / weight
    return smoothed
