"""Crowds from the annotations of real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from swahr.data.synthetic.body import Bodies


class LayoutCrowd:
    """Real poses and crowds."""

    def __init__(self, layouts: str | Path, people: tuple[int, int]) -> None:
        raise ValueError(f"{layouts}: layouts cannot be read yet")

    def __call__(self, rng: np.random.Generator, size: tuple[int, int]) -> Bodies:
        """Place people."""
        raise NotImplementedError
