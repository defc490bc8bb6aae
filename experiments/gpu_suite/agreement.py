"""Differences between results of two devices, and their tolerances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gpu_suite.checks import CheckFailedError


class Differences:
    """Largest absolute differences by name, each with a tolerance; 0 requires equality."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._failures: list[str] = []

    def add(self, name: str, found: Any, expected: Any, tolerance: float = 0.0) -> None:
        """Compare two arrays or tensors of the same shape."""
        ours, wanted = (_array(values) for values in (found, expected))
        if ours.shape != wanted.shape:
            self._values[name] = float("inf")
            self._failures.append(f"{name}: expected the shape {wanted.shape}, got {ours.shape}")
            return
        difference = float(np.abs(ours - wanted).max(initial=0.0))
        self._values[name] = difference
        if not difference <= tolerance:  # NaN fails as well
            self._failures.append(
                f"{name}: the largest difference is {difference:.3g}, allowed {tolerance:.3g}"
            )

    def checked(self) -> dict[str, float]:
        """The differences.

        Raises:
            CheckFailedError: some are larger than their tolerance.
        """
        if self._failures:
            raise CheckFailedError("\n".join(self._failures), self._values)
        return self._values


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy() if values.is_floating_point() else values.cpu().numpy()
    return np.asarray(values, dtype=np.float64)
