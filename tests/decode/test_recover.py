"""Recovery of missing keypoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.decode import KeypointRecovery, recover
from swahr.structures import Groups


def nobody_but(tag: float, keypoints: int = 2) -> Groups:
    """One person with the first keypoint at (4.25, 4.75) and the others missing."""
    groups = Groups(
        positions=np.zeros((1, keypoints, 2)),
        scores=np.zeros((1, keypoints)),
        present=np.zeros((1, keypoints), dtype=bool),
        tag=np.array([[tag]]),
    )
    groups.positions[0, 0], groups.scores[0, 0], groups.present[0, 0] = (4.25, 4.75), 0.9, True
    return groups


def two_places() -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoint 1 is hot at pixel (x, y) = (2, 3) with tag 0, and less so at (8, 9) with tag 5."""
    heatmaps, tags = torch.zeros(2, 12, 14), torch.full((2, 12, 14, 1), 20.0)
    heatmaps[1, 3, 2], tags[1, 3, 2, 0] = 0.8, 0.0
    heatmaps[1, 9, 8], heatmaps[1, 9, 9], tags[1, 9, 8, 0] = 0.3, 0.1, 5.0
    return heatmaps, tags


@pytest.mark.parametrize(
    ("tag", "position", "score"),
    [(0.2, (2.25, 3.25), 0.8), (5.4, (8.75, 9.25), 0.3), (4.6, (8.75, 9.25), 0.3)],
)
def test_the_tag_decides_between_places(tag: float, position: tuple[float, float], score: float):
    groups = KeypointRecovery()(nobody_but(tag), *two_places())
    assert groups.present.all()
    assert groups.positions[0, 1].tolist() == list(position)
    assert groups.scores[0, 1] == pytest.approx(score)


def test_found_keypoints_stay_and_the_input_is_not_written_to():
    before = nobody_but(0.0)
    after = KeypointRecovery()(before, *two_places())
    assert after.positions[0, 0].tolist() == [4.25, 4.75]
    assert not before.present[0, 1]


def test_no_heat_no_keypoint():
    heatmaps, tags = two_places()
    assert not KeypointRecovery()(nobody_but(0.0), -heatmaps.abs(), tags).present[0, 1]
    assert not KeypointRecovery(threshold=0.85)(nobody_but(0.0), heatmaps, tags).present[0, 1]


def test_switched_off():
    groups = nobody_but(0.0)
    assert KeypointRecovery(enabled=False)(groups, *two_places()) is groups


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([1, 40, 1 << 15]))
def test_equals_the_slow_reference(decode_reference, seed: int, chunk: int):
    rng = np.random.default_rng(seed)
    heatmaps = rng.uniform(0, 1, (3, 8, 9)).astype(np.float32)
    tags = rng.normal(0, 2, (3, 8, 9, 2)).astype(np.float32)
    people = rng.normal(0, 2, (4, 2)).astype(np.float32).astype(np.float64)
    missing = rng.uniform(size=(4, 3)) < 0.6
    groups = replace(
        nobody_but(0.0, 3),
        positions=np.zeros((4, 3, 2)), scores=np.zeros((4, 3)), present=~missing, tag=people,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recover, "_CHUNK", chunk)
        found = KeypointRecovery()(groups, torch.from_numpy(heatmaps), torch.from_numpy(tags))
    for person, keypoint in zip(*np.nonzero(missing), strict=True):
        x, y = decode_reference.best_place(heatmaps[keypoint], tags[keypoint], people[person])
        assert np.floor(found.positions[person, keypoint]).tolist() == [x, y]
        assert found.scores[person, keypoint] == heatmaps[keypoint, y, x]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([1, 7, 512]))
def test_what_is_passed_over_could_not_be_best_ties_included(seed: int, coarse: bool, seeds: int):
    rng = np.random.default_rng(seed)
    heatmaps = rng.uniform(-0.2, 1, (2, 45, 70)) ** 5
    tags = 2 * np.round(np.kron(rng.normal(0, 2, (2, 5, 7, 2)), np.ones((1, 9, 10, 1))))
    if coarse:  # many places are equally good
        heatmaps, tags = np.round(4 * heatmaps) / 4, np.round(tags)
    else:
        tags += rng.normal(0, 0.2, tags.shape)
    heatmaps, tags = heatmaps.astype(np.float32), tags.astype(np.float32)
    keypoint, wanted = rng.integers(0, 2, 20), rng.normal(0, 4, (20, 2)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recover, "_SEEDS", seeds)
        places = recover._best_places(*map(torch.from_numpy, (heatmaps, tags, keypoint, wanted)))
    for k, tag, place in zip(keypoint, wanted, places.tolist(), strict=True):
        distance = np.round(np.sqrt(((tags[k] - tag) ** 2).sum(axis=2)))
        assert place == [k, *np.unravel_index(np.argmax(heatmaps[k] - distance), heatmaps[k].shape)]
