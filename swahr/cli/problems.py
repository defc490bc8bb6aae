"""Problems with single images, which do not end a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from swahr.structures import Poses


def finite_people(poses: Poses, name: str) -> tuple[Poses, list[str]]:
    """The people whose scores and positions are finite numbers, and a problem if there are others."""
    positions = np.isfinite(poses.keypoints).all(axis=-1) | ~poses.present
    scores = poses.scores if poses.occluded is None else poses.scores + poses.occluded
    valid = np.isfinite(poses.score) & (np.isfinite(scores) & positions).all(axis=-1)
    if valid.all():
        return poses, []
    text = (
        f"{name}: {np.count_nonzero(~valid)} of {len(poses)} people are left out because their scores or "
        "positions are not finite numbers; check decode and postprocess"
    )
    return poses.select(valid), [text]


def raise_problems(problems: Sequence[str], *, summary: str, folder: Path) -> None:
    """Raise a ValueError that lists the problems of a run that is complete otherwise, if there are any."""
    if problems:
        raise ValueError("\n".join([f"{summary}; all other results are in {folder}", *problems]))
