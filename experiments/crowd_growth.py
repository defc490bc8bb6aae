"""The number of people that grouping finds in growing crowds; peaks only, no maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from crowds import Crowd
from noise import NoiseModel
from variants import Group

from swahr.structures import ABSENT, Peaks

_KEPT = 30  # peaks per keypoint type, as `PeakExtractor` keeps by default
_TAG_DIMENSIONS = 2


def crowd_peaks(labelled: npt.NDArray[np.bool_], noise: NoiseModel, rng: np.random.Generator) -> Peaks:
    """Peaks of people whose labelled keypoints are given ``(p k)``: the best thirty of each keypoint type.

    Heights, tags, missing and spurious peaks follow the noise model. A spurious peak has the tag of a random
    person.
    """
    people, keypoints = labelled.shape
    means = noise.tag_gap * rng.permutation(people)
    person, keypoint = np.nonzero(labelled & (rng.random(labelled.shape) >= noise.missing))
    wrong = rng.poisson(noise.spurious * labelled.sum())
    person = np.concatenate([person, rng.integers(0, people, wrong)])
    keypoint = np.concatenate([keypoint, rng.integers(0, keypoints, wrong)])
    height = rng.uniform(*noise.height, len(person))
    height[len(height) - wrong :] *= 0.5
    tags = means[person][:, None] + rng.normal(0, noise.tag_spread, (len(person), _TAG_DIMENSIONS))
    peaks = Peaks(
        positions=torch.zeros(1, keypoints, _KEPT, 2),
        scores=torch.zeros(1, keypoints, _KEPT),
        tags=torch.zeros(1, keypoints, _KEPT, _TAG_DIMENSIONS),
    )
    for k in range(keypoints):
        own = np.nonzero(keypoint == k)[0]
        best = own[np.argsort(-height[own])][:_KEPT]
        peaks.scores[0, k, : len(best)] = torch.from_numpy(height[best])
        peaks.tags[0, k, : len(best)] = torch.from_numpy(tags[best])
    return peaks


def crowd_growth(
    crowds: Sequence[Crowd],
    rules: Mapping[str, Group],
    noise: NoiseModel,
    *,
    people: Sequence[int],
    repeats: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean and standard deviation of the number of people found in crowds of each size, by rule."""
    visible = np.concatenate([crowd.people.visibility > ABSENT for crowd in crowds])
    rows = []
    for count in people:
        rng = np.random.default_rng((seed, count))
        drawn = [
            crowd_peaks(visible[rng.integers(0, len(visible), count)], noise, rng) for _ in range(repeats)
        ]
        for rule, group in rules.items():
            found = [len(group(peaks)[0]) for peaks in drawn]
            rows.append({"people": count, "grouping": rule, "found": np.mean(found), "spread": np.std(found)})
    return rows
