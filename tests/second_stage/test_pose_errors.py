"""Errors of a first stage, by hand and by their frequencies."""

from typing import Any

import numpy as np
import pytest

from swahr.second_stage import PoseErrors
from swahr.skeleton import Skeleton

PUPPET = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"]})
FLIP = PUPPET.flip_permutation
NAN = float("nan")
PERSON = np.array([(40.3, 62.9), (71.8, 60.4), (55.0, 20.7)])
NONE: dict[str, float] = {"inversion": 0.0, "swap": 0.0, "jitter": 0.0, "miss": 0.0}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def with_errors(people: Any, *, seed: int = 0, **errors: float) -> np.ndarray:
    people = np.array(people, dtype=np.float64)
    return PoseErrors(**NONE | errors)(people, 0, flip_permutation=FLIP, rng=rng(seed))


def test_without_errors_the_pose_stays() -> None:
    people = [PERSON, PERSON + 3, [(NAN, NAN)] * 3]
    np.testing.assert_array_equal(with_errors(people), PERSON)


def test_inversions_exchange_left_and_right_together() -> None:
    np.testing.assert_array_equal(with_errors([PERSON], inversion=1.0), PERSON[[1, 0, 2]])
    known = PERSON.copy()
    known[1] = np.nan
    np.testing.assert_array_equal(with_errors([known], inversion=1.0), known[[1, 0, 2]])
    found = [with_errors([PERSON], inversion=0.3, seed=seed)[:2].tolist() for seed in range(400)]
    inverted = [pair == PERSON[[1, 0]].tolist() for pair in found]
    assert all(pair in (PERSON[:2].tolist(), PERSON[[1, 0]].tolist()) for pair in found)
    assert np.mean(inverted) == pytest.approx(0.3, abs=0.06)


def test_swaps_take_keypoints_of_the_nearest_person_within_the_boxs_longer_side() -> None:
    """That side is 42.2; the first neighbour's head is absent, the third's is nearer than the second's."""
    first, second, third, far = (PERSON + shift for shift in ((5, 0), (20, 0), (0, 10), (60, 0)))
    first[2] = np.nan
    found = with_errors([PERSON, far, first, second, third], swap=1.0)
    np.testing.assert_array_equal(found, [first[0], first[1], third[2]])
    np.testing.assert_array_equal(with_errors([PERSON, far], swap=1.0), PERSON)
    np.testing.assert_array_equal(with_errors([PERSON], swap=1.0), PERSON)


def test_jitter_and_misses_have_the_stated_sizes() -> None:
    found = np.stack([with_errors([PERSON], jitter=0.1, miss=0.2, seed=seed) for seed in range(600)])
    missing = np.isnan(found)
    assert np.array_equal(missing[..., 0], missing[..., 1])
    assert missing.mean() == pytest.approx(0.2, abs=0.03)
    shift = (found - PERSON)[~missing]
    assert shift.std() == pytest.approx(0.1 * (62.9 - 20.7), rel=0.05)
    assert abs(shift.mean()) < 0.3


def test_errors_of_an_image_depend_on_image_and_person_only() -> None:
    errors, people = PoseErrors(), np.stack([PERSON, PERSON + 3])
    found = errors.of_image(people, 7, flip_permutation=FLIP)
    np.testing.assert_array_equal(errors.of_image(people, 7, flip_permutation=FLIP), found)
    assert not np.array_equal(errors.of_image(people, 8, flip_permutation=FLIP), found, equal_nan=True)
    assert not np.array_equal(found[0] + 3, found[1], equal_nan=True)
    unseen = np.full_like(people, NAN)
    assert np.isnan(errors.of_image(unseen, 7, flip_permutation=FLIP)).all()
    assert errors.of_image(people[:0], 7, flip_permutation=FLIP).shape == (0, 3, 2)
    np.testing.assert_array_equal(people[0], PERSON)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"miss": 1.5}, "condition.miss: expected a probability"), ({"swap": -0.1}, "condition.swap"),
     ({"inversion": NAN}, "condition.inversion"), ({"jitter": -1.0}, "condition.jitter: expected a number"),
     ({"jitter": float("inf")}, "condition.jitter")],
)  # fmt: skip
def test_impossible_errors(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoseErrors(**changes)
