"""Training curves from the ``metrics.csv`` that Lightning's CSV logger writes."""

import csv
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from swahr.draw.figure import add_footer, new_figure, render
from swahr.images import write_image

Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # optimiser steps, and the values logged

_COLOURS = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
_MAIN = ("loss", "AP")  # drawn thicker, and first in the legend
_SMOOTHING = 0.02  # standard deviation as a fraction of the whole run


def draw_curves(metrics_csv: str | Path, folder: str | Path, *, footer: str = "") -> list[Path]:
    """Draw loss and accuracy curves, and return the files written.

    ``loss.png``: every ``train/`` column against the optimiser step, raw (faint) and smoothed, log axis.
    ``ap.png``: AP, AR and their variants in ``val/`` columns, as fractions. Without data there is no figure.

    Args:
        metrics_csv: the file that `lightning.pytorch.loggers.CSVLogger` writes.
        folder: where the pictures go.
        footer: small print, e.g. the run's commit and seed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no ``step`` column, or neither ``train/`` nor ``val/`` columns.
    """
    series = read_metrics(metrics_csv)
    losses = _select({name: series[name] for name in series if name != "train/tag_separation"}, "train/")
    # COCO's tools write -1 where no person qualifies.
    accuracies = {name: curve for name, curve in _select(series, "val/A").items() if curve[1].min() >= 0}
    figures = {}
    if losses:
        figures["loss.png"] = _figure(losses, "loss (weighted, mean over the batch)", footer, are_losses=True)
    if accuracies:
        figures["ap.png"] = _figure(accuracies, "AP, AR (fraction, 0 to 1)", footer, are_losses=False)
    if not figures:
        raise ValueError(
            f"{metrics_csv}: expected columns 'step', and 'train/...' or 'val/AP...', got {sorted(series)}; "
            "point to the metrics.csv of a training run that took at least trainer.log_every_n_steps steps"
        )
    return [write_image(Path(folder) / name, render(figure)) for name, figure in figures.items()]


def read_metrics(metrics_csv: str | Path) -> dict[str, Series]:
    """Read a metrics file into one series per column. Empty cells, and rows without a step, are skipped."""
    with Path(metrics_csv).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("step")]
    series = {}
    for name in rows[0].keys() - {"step", "epoch"} if rows else ():
        points = sorted((float(row["step"]), float(row[name])) for row in rows if row[name])
        if points:
            steps, values = np.array(points).T
            series[name] = (steps, values)
    return series


def _select(series: Mapping[str, Series], start: str) -> dict[str, Series]:
    """The columns that start so, named without their group; the total first, then in order of size."""
    found = {name.partition("/")[2]: values for name, values in series.items() if name.startswith(start)}
    order = sorted(found, key=lambda name: (name not in _MAIN, -float(found[name][1][-1]), name))
    return {name: found[name] for name in order}


def _figure(series: Mapping[str, Series], y_label: str, footer: str, *, are_losses: bool) -> Figure:
    figure = new_figure(1000, 600, layout="constrained")
    axes = figure.subplots()
    for colour, (name, (steps, values)) in zip(cycle(_COLOURS), series.items(), strict=False):
        label, shown = f"{name}  {values[-1]:.3f}", values
        if are_losses:
            axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.8)
            shown = gaussian_filter1d(values, _SMOOTHING * len(values), mode="nearest")
            label = "total" if name == "loss" else name.replace("_", " ")
        axes.plot(
            steps, shown, "--" if name.startswith("AR") else "-", marker="" if are_losses else ".",
            color=colour, linewidth=2.3 if name in _MAIN else 1.3, label=label,
        )  # fmt: skip
    if are_losses:
        axes.set_yscale("log", nonpositive="mask")
    else:
        axes.set_ylim(bottom=0.0)
    axes.set_title("Training losses" if are_losses else "Validation", loc="left")
    axes.set(xlabel="optimiser step", ylabel=y_label, xmargin=0.01)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    add_footer(figure, footer)
    return figure
