"""Figures made with matplotlib's objects (no global state, no display) and turned into RGB arrays."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 100
INK = "#222222"
FAINT_INK = "#777777"


def new_figure(width: int, height: int) -> Figure:
    """An empty white figure of ``width`` x ``height`` pixels."""
    figure = Figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def add_footer(figure: Figure, text: str) -> None:
    """Small print at the bottom left: where the figure comes from."""
    figure.text(0.01, 0.008, text, fontsize=7, color=FAINT_INK, ha="left", va="bottom", parse_math=False)


def render(figure: Figure) -> UInt8[np.ndarray, "H W 3"]:
    """The figure's pixels."""
    width, height = figure.canvas.get_width_height()
    stream = io.BytesIO()
    figure.savefig(stream, format="rgba", dpi=DOTS_PER_INCH)
    return np.frombuffer(stream.getvalue(), dtype=np.uint8).reshape(height, width, 4)[..., :3].copy()
