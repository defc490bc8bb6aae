"""The ablation's figure, from the files of finished runs only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ablation_parts.page import by_variant, counted, with_scale_maps
from ablation_parts.plan import Result
from swahr.draw.figure import FAINT_INK, INK, add_footer, new_figure, render

_COLOURS = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")


def draw_results(results: Sequence[Result], test: str, footer: str) -> npt.NDArray[np.uint8]:
    """Learning curves and, if there are scale maps, their width against person size on a test set."""
    colours = dict(zip(by_variant(results), cycle(_COLOURS), strict=False))
    measured = {
        variant: values for (variant, name), values in with_scale_maps(results).items() if name == test
    }
    figure = new_figure(1300 if measured else 680, 520)
    left, width = (0.06, 0.41) if measured else (0.11, 0.83)
    curves = figure.add_axes((left, 0.13, width, 0.76))
    for variant, runs in by_variant(results).items():
        for i, run in enumerate(runs):
            steps, values = np.array(run["curve"], dtype=np.float64).reshape(-1, 2).T
            label = f"{variant} ({counted(len(runs), 'seed')})" if i == 0 else None
            curves.plot(steps, values, color=colours[variant], linewidth=1.2, label=label)
    _finish(curves, "Learning curves: AP on validation images", "optimiser steps", "AP")
    if measured:
        _draw_sizes(figure.add_axes((0.56, 0.13, width, 0.76)), measured, colours, test)
    add_footer(figure, footer)
    return render(figure)


def _draw_sizes(
    axes: Axes, measured: Mapping[str, Sequence[Result]], colours: Mapping[str, str], test: str
) -> None:
    for variant, values in measured.items():
        for i, one in enumerate(values):
            size, s, low, high = (
                [row[key] for row in one["by_size"]] for key in ("size", "s", "low", "high")
            )
            axes.plot(size, s, color=colours[variant], marker="o", markersize=3, label=None if i else variant)
            axes.fill_between(size, low, high, color=colours[variant], alpha=0.12, linewidth=0)
    across = "square root of the person's area, pixels of the map"
    _finish(axes, f"Scale maps on {test}: does s follow size?", across, "s: median and quartiles")


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT_INK, labelsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
