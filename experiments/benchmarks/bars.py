"""A bar chart of ratios."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from swahr.draw.figure import FAINT_INK, INK, add_footer, new_figure, render

_WIDTH, _ROW, _MARGIN = 1100, 24, 110  # pixels
_COLOUR = "#0072b2"


def draw_ratios(ratios: Mapping[str, float], *, title: str, footer: str = "") -> UInt8[np.ndarray, "H W 3"]:
    """Return a picture with a bar for each ratio, on a logarithmic axis with a line at 1.

    Args:
        ratios: positive numbers by their labels, from top to bottom.
        title: what the ratios compare.
        footer: small print, e.g. the machine and the commit.
    """
    height = _MARGIN + _ROW * max(1, len(ratios))
    figure = new_figure(_WIDTH, height)
    axes = figure.add_axes((0.5, 60 / height, 0.43, 1 - _MARGIN / height))
    ticks, values = range(len(ratios)), list(ratios.values())
    axes.barh(ticks, values, color=_COLOUR, height=0.7)
    for tick, value in zip(ticks, values, strict=True):
        axes.text(value, tick, f" {value:.3g}", va="center", fontsize=8, color=INK)
    axes.set_yticks(ticks, list(ratios), fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1.0, color=FAINT_INK, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    figure.text(0.01, 1 - 22 / height, title, fontsize=11, color=INK)
    add_footer(figure, footer)
    return render(figure)
