"""Figures made with matplotlib's objects (no global state, no display) and turned into RGB arrays."""

import io
from typing import Literal

import cv2
import numpy as np
from matplotlib.figure import Figure

from swahr.draw.palette import Picture

INK = "#222222"
FAINT_INK = "#777777"


def new_figure(width: int, height: int, layout: Literal["constrained", "compressed"] | None = None) -> Figure:
    """An empty white figure of ``width`` x ``height`` pixels."""
    return Figure(figsize=(width / 100, height / 100), dpi=100, layout=layout)


def add_footer(figure: Figure, text: str, *, y: float | None = None) -> None:
    """Small print at the bottom left (at ``y`` in figure heights, if given): where the figure comes from."""
    if text:
        figure.supxlabel(text, x=0.01, y=y, fontsize=7, color=FAINT_INK, ha="left", parse_math=False)


def render(figure: Figure, *, crop: bool = False) -> Picture:
    """The figure's pixels, ``(H, W, 3)``; with ``crop``, as far as something is drawn."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight" if crop else None)
    bgr = cv2.imdecode(np.frombuffer(stream.getvalue(), dtype=np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(np.asarray(bgr, dtype=np.uint8)[..., ::-1])
