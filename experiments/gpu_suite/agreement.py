"""Differences between results of two devices, and their tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpu_suite.checks import CheckFailedError
from swahr.structures import Poses

_NEAR = 0.05  # pixels of the image
_UNMATCHED = 0.02  # share of poses, because nearly equal peaks and tags compete


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


def compare_poses(found: Sequence[Poses], expected: Sequence[Poses]) -> dict[str, float]:
    """Match the poses of the same images: all keypoints within 0.05 pixels, and the same keypoints missing.

    Raises:
        CheckFailedError: more than 2 % of the poses of either side have no match.
    """
    pairs = list(zip(found, expected, strict=True))
    alone = sum(_unmatched(a, b) + _unmatched(b, a) for a, b in pairs)
    total = sum(len(a) + len(b) for a, b in pairs)
    measurements = {"poses": sum(map(len, expected)), "unmatched": alone / max(1, total)}
    if measurements["unmatched"] > _UNMATCHED:
        raise CheckFailedError(f"{alone} of {total} poses of both devices have no match", measurements)
    return measurements


def _unmatched(poses: Poses, others: Poses) -> int:
    """The number of poses without a match among the others."""
    if not len(poses) or not len(others):
        return len(poses)
    distance = np.abs(poses.keypoints[:, None] - others.keypoints[None]).max(axis=-1)
    near = np.where(
        poses.present[:, None] & others.present[None],
        distance <= _NEAR,
        poses.present[:, None] == others.present[None],
    )
    return int((~near.all(axis=-1).any(axis=1)).sum())
