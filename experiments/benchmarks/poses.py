"""Poses of two ways to compute the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swahr.structures import Poses

_NEAR = 0.05  # pixels of the image
_UNMATCHED = 0.02  # share of poses, because nearly equal peaks and tags compete


def compare_poses(found: Sequence[Poses], expected: Sequence[Poses]) -> dict[str, float]:
    """Match the poses of the same images: all keypoints within 0.05 pixels, and the same keypoints missing.

    Raises:
        AssertionError: nobody is expected, or more than 2 % of the poses of both sides have no match.
    """
    pairs = list(zip(found, expected, strict=True))
    alone = sum(_unmatched(a, b) + _unmatched(b, a) for a, b in pairs)
    total = sum(len(a) + len(b) for a, b in pairs)
    people = sum(map(len, expected))
    assert people > 0, "expected poses to compare with, got none"
    assert alone <= _UNMATCHED * total, f"{alone} of {total} poses of both sides have no match"
    return {"poses": people, "unmatched": alone / total}


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
