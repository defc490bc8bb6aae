"""Parametric pose NMS: by hand, against a plain version in float64, its properties, and its time."""

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.second_stage import PoseNms
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import Poses

THREE = Skeleton.from_dict({"name": "three", "keypoints": ["a", "b", "c"]})
PUBLIC = {"sigma_score": 1.0, "sigma_distance": 2.65, "threshold": 22.48, "matched": 5, "relative": False}


def people(keypoints: Any, scores: Any, score: Any, skeleton: Skeleton = THREE) -> Poses:
    """Poses; a keypoint at NaN is absent."""
    points = np.array(keypoints, dtype=np.float64)
    present = ~np.isnan(points).any(axis=2)
    values = np.where(present, np.broadcast_to(np.array(scores, dtype=np.float64), present.shape), 0.0)
    return Poses(points, values, np.array(score, dtype=np.float64), present, skeleton)


def random_people(seed: int, count: int, skeleton: Skeleton = COCO) -> Poses:
    """People in groups of similar poses, some keypoints absent, with distinct scores."""
    rng = np.random.default_rng(seed)
    bodies = rng.uniform(0, 300, (max(1, count // 2), 1, 2)) + rng.uniform(
        0, 100, (max(1, count // 2), skeleton.num_keypoints, 2)
    )
    chosen = bodies[rng.integers(len(bodies), size=count)]
    points = chosen + rng.normal(0, rng.uniform(0.1, 20, (count, 1, 1)), chosen.shape)
    points[rng.random(points.shape[:2]) < 0.2] = np.nan
    return people(points, rng.random(points.shape[:2]), rng.permutation(count) / count + 0.1, skeleton)


def kept(rule: PoseNms, poses: Poses) -> list[float]:
    (found,) = rule([], [poses])
    return sorted(found.score.tolist())


def reference(rule: PoseNms, poses: Poses) -> list[int]:
    """The same rule, written plainly."""
    left = sorted(range(len(poses)), key=lambda i: -poses.score[i])
    survivors = []
    while left:
        i, *others = left
        survivors.append(i)
        points = [poses.keypoints[i][n] for n in range(poses.keypoints.shape[1]) if poses.present[i][n]]
        spans = (
            [max(p[axis] for p in points) - min(p[axis] for p in points) for axis in (0, 1)]
            if points
            else [0]
        )
        side, left = rule.box * max(spans), []
        for j in others:
            k = h = 0.0
            matched = 0
            for n in range(poses.keypoints.shape[1]):
                if poses.present[i][n] and poses.present[j][n]:
                    x, y = poses.keypoints[j][n] - poses.keypoints[i][n]
                    if abs(x) <= side / 2 and abs(y) <= side / 2:
                        matched += 1
                        k += math.tanh(poses.scores[i][n] / rule.sigma_score) * math.tanh(
                            poses.scores[j][n] / rule.sigma_score
                        )
                    unit = side**2 if rule.relative else 1.0
                    distance = x**2 + y**2
                    if distance == 0 or unit > 0:
                        h += math.exp(-(distance / unit if distance else 0.0) / rule.sigma_distance)
            similar = k + rule.distance_weight * h >= rule.threshold
            if not similar and (rule.matched is None or matched < rule.matched):
                left.append(j)
    return sorted(survivors)


def test_similarity_by_hand():
    # The reference's box is 100 x 40, so that B has sides of 10 and a keypoint may be off by 5.
    first = [[0, 0], [100, 0], [50, 40]]
    second = [[3, 4], [106, 0], [np.nan, np.nan]]  # 5 px off and within B; 6 px off; absent
    poses = people([first, second], [[0.8, 0.6, 0.4], [0.5, 0.9, 0.0]], [0.9, 0.3])
    rule = PoseNms(sigma_score=0.5, sigma_distance=20.0, distance_weight=2.0, relative=False)
    pairs = rule.compare([poses])
    k = math.tanh(0.8 / 0.5) * math.tanh(0.5 / 0.5)
    h = math.exp(-25 / 20) + math.exp(-36 / 20)
    assert pairs.score_similarity(0.5) == pytest.approx([k], abs=1e-12)
    assert pairs.distance_similarity(20.0) == pytest.approx([h], abs=1e-12)
    assert rule.similarity(pairs) == pytest.approx([k + 2 * h], abs=1e-12)
    relative = PoseNms().compare([poses]).distance_similarity(0.5)
    assert relative == pytest.approx([math.exp(-0.25 / 0.5) + math.exp(-0.36 / 0.5)], abs=1e-12)


@pytest.mark.parametrize(("threshold", "remaining"), [(0.999, [0.9]), (1.001, [0.3, 0.9])])
def test_eliminated_from_the_threshold_on(threshold: float, remaining: list[float]):
    poses = people([[[0, 0], [100, 0], [np.nan] * 2], [[50, 50], [100, 0], [9, 9]]], 1.0, [0.9, 0.3])
    # One keypoint coincides: H is 1 and, for scores of 1, K is 1 for a tiny sigma.
    rule = PoseNms(sigma_score=1e-3, distance_weight=0.0, threshold=threshold)
    assert kept(rule, poses) == remaining


def test_at_the_threshold_a_pose_is_eliminated():
    poses = random_people(0, 6)
    rule = PoseNms()
    highest = float(rule.similarity(rule.compare([poses])).max())
    assert len(kept(PoseNms(threshold=highest), poses)) == 5
    assert len(kept(PoseNms(threshold=np.nextafter(highest, np.inf)), poses)) == 6


def test_what_is_eliminated_eliminates_nobody():
    body = np.array([[0, 0], [100, 0], [50, 40]], dtype=np.float64)
    chain = people([body, body + 4, body + 8], 1.0, [0.9, 0.8, 0.7])  # each similar to its neighbour only
    rule = PoseNms(sigma_distance=0.1, threshold=1.5)
    pairs = rule.compare([chain])
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert (rule.similarity(pairs) >= 1.5).tolist() == [True, False, True]
    assert kept(rule, chain) == [0.7, 0.9]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 14), threshold=st.floats(0.5, 30),
       matched=st.none() | st.integers(1, 8), relative=st.booleans())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_like_the_plain_version(seed: int, count: int, threshold: float, matched: int | None, relative: bool):
    poses = random_people(seed, count)
    rule = PoseNms(
        sigma_score=0.4, sigma_distance=0.3 if relative else 30.0, threshold=threshold, matched=matched,
        relative=relative,
    )  # fmt: skip
    assert np.flatnonzero(rule.keep(rule.compare([poses]))).tolist() == reference(rule, poses)


@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_neither_the_order_nor_the_size_of_the_image_matters(seed: int, factor: float):
    poses, rule = random_people(seed, 10), PoseNms()
    order = np.random.default_rng(seed).permutation(10)
    shuffled = poses.select(order)
    assert kept(rule, shuffled) == kept(rule, poses)
    larger = people(factor * poses.keypoints + 7, poses.scores, poses.score, COCO)
    pairs = [rule.similarity(rule.compare([one])) for one in (poses, larger)]
    np.testing.assert_allclose(*pairs, rtol=1e-6, atol=1e-9)


def test_images_are_compared_one_by_one():
    poses, rule = random_people(3, 8), PoseNms()
    other = random_people(4, 5)
    together = rule.keep(rule.compare([poses, other, poses]))
    alone = [rule.keep(rule.compare([one])) for one in (poses, other, poses)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_one_of_two_equal_poses_remains_and_one_keypoint_needs_a_rule_of_its_own():
    points = random_people(1, 1).keypoints[0]
    lone = np.full((17, 2), np.nan)
    lone[3] = 5.0
    for body, rule in ((points, PoseNms()), (lone, PoseNms(matched=1))):
        (found,) = rule([], [people([body, body], 0.7, [0.5, 0.5], COCO)])
        assert len(found) == 1


def test_a_ghost_goes_and_a_neighbour_stays():
    rng = np.random.default_rng(2)
    body = rng.uniform(0, (60, 200), (17, 2))
    ghost, neighbour = body + rng.normal(0, 4, body.shape), body + np.array([30, 5])  # boxes overlap by half
    other = np.random.default_rng(9).uniform(0, (60, 200), (17, 2))  # in the same box, posed differently
    for skeleton, k in ((COCO, 17), (CROWDPOSE, 14)):
        crowd = np.stack([ghost, body, neighbour, other])[:, :k]
        assert kept(PoseNms(), people(crowd, 0.8, [0.4, 0.9, 0.8, 0.7], skeleton)) == [0.7, 0.8, 0.9]


def test_nobody_one_person_and_people_without_keypoints():
    rule = PoseNms(matched=1)
    nobody, one = Poses.nobody(COCO), random_people(0, 1)
    empty = people(np.full((2, 17, 2), np.nan), 0.0, [0.2, 0.1], COCO)
    assert [len(found) for found in rule([], [nobody, one, empty])] == [0, 1, 2]
    assert rule([], []) == []


def test_survivors_are_unchanged_and_in_their_order():
    poses = random_people(5, 12)
    (found,) = PoseNms(threshold=3.0)([], [poses])
    positions = [poses.score.tolist().index(score) for score in found.score.tolist()]
    assert 0 < len(positions) < 12
    assert positions == sorted(positions)
    np.testing.assert_array_equal(found.keypoints, poses.keypoints[positions])


def test_the_public_constants():
    """Seven pixels off, nothing but the number of matched keypoints eliminates: sigma_2 is 2.65 px²."""
    body = random_people(0, 1).keypoints[0]
    body = np.where(np.isnan(body), 0.0, body) * 3
    poses = people([body, body + 7], 0.9, [0.9, 0.5], COCO)
    assert kept(PoseNms(**PUBLIC), poses) == [0.9]
    assert kept(PoseNms(**{**PUBLIC, "matched": None}), poses) == [0.5, 0.9]
    assert kept(
        PoseNms(**{**PUBLIC, "matched": None}), people([body, body + 0.5], 0.9, [0.9, 0.5], COCO)
    ) == [0.9]


@pytest.mark.parametrize("name", ["sigma_score", "sigma_distance", "threshold", "matched", "box"])
@pytest.mark.parametrize("value", [0, -1])
def test_settings_that_must_be_positive(name: str, value: int):
    with pytest.raises(ValueError, match=rf"{name}={value}(\.0)?: expected a positive, finite number"):
        PoseNms(**{name: value if name == "matched" else float(value)})


@pytest.mark.parametrize("name", ["sigma_score", "threshold", "distance_weight"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_settings_that_are_no_numbers(name: str, value: float | None, untyped: None):
    with pytest.raises(ValueError, match=f"{name}={value}: expected"):
        PoseNms(**{name: value})


def test_a_negative_weight():
    with pytest.raises(ValueError, match=r"distance_weight=-1\.0: expected 0 or"):
        PoseNms(distance_weight=-1.0)


@pytest.mark.parametrize("similar", [False, True])
def test_a_hundred_poses_take_at_most_two_milliseconds(similar: bool, untyped: None):
    rng = np.random.default_rng(0)
    crowd = rng.uniform(0, 600, (100, 1, 2)) + rng.uniform(0, 200, (100, 17, 2))
    if similar:
        crowd = crowd[:1] + rng.normal(0, 3, crowd.shape)
    poses, rule = people(crowd, rng.random((100, 17)), rng.random(100), COCO), PoseNms()
    times = []
    while len(times) < 400 and not (times and min(times) < 0.002):  # a busy machine is slower for a while
        start = time.perf_counter()
        rule([], [poses])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002
