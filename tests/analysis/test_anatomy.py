"""Poses that do not look like annotated people: limbs too long, joints bent where they never are."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swahr.analysis import Anatomy, Plausibility, fit_anatomy
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

Entries = list[dict[str, Any]]
CHAIN = Skeleton.from_dict(
    {"name": "chain", "keypoints": list("abcde"), "limbs": [list("ab"), list("bc"), list("cd"), list("de")]}
)
STANDING = {
    "nose": (0, -70), "left_eye": (5, -75), "right_eye": (-5, -75), "left_ear": (11, -72),
    "right_ear": (-11, -72), "head": (0, -90), "neck": (0, -52), "left_shoulder": (20, -45),
    "right_shoulder": (-20, -45), "left_elbow": (35, -15), "right_elbow": (-35, -15), "left_wrist": (30, 15),
    "right_wrist": (-30, 15), "left_hip": (12, 20), "right_hip": (-12, 20), "left_knee": (15, 65),
    "right_knee": (-15, 65), "left_ankle": (14, 110), "right_ankle": (-14, 110),
}  # fmt: skip


def standing(rng: np.random.Generator, count: int, skeleton: Skeleton, noise: float = 2.0) -> np.ndarray:
    """People who stand, of any size, anywhere, leaning a little."""
    base = np.array([STANDING[name] for name in skeleton.keypoints], dtype=np.float64)
    return placed(rng, base + rng.normal(0, noise, (count, *base.shape)))


def placed(rng: np.random.Generator, poses: np.ndarray, lean: float = 0.3) -> np.ndarray:
    angle = rng.uniform(-lean, lean, (len(poses), 1))
    turned = (poses[..., 0] + 1j * poses[..., 1]) * np.exp(1j * angle) * rng.uniform(0.2, 3, (len(poses), 1))
    turned += rng.uniform(1000, 2000, (len(poses), 1)) * (1 + 1j)
    return np.stack([turned.real, turned.imag], axis=-1)


def chains(bend: np.ndarray) -> np.ndarray:
    """Limbs of equal length; the third turns by ``bend`` degrees, the others go on straight."""
    steps = np.ones((len(bend), 4), dtype=complex)
    steps[:, 2:] = np.exp(1j * np.deg2rad(bend))[:, None]
    points = np.concatenate([np.zeros((len(bend), 1)), np.cumsum(steps, axis=1)], axis=1) * 10 + 100
    return np.stack([points.real, points.imag], axis=-1)


def results(poses: np.ndarray) -> Entries:
    """Keypoints that are NaN are missing."""
    triples = np.concatenate([poses, np.ones((*poses.shape[:2], 1))], axis=-1)
    triples[np.isnan(poses).any(axis=-1)] = 0
    return [{"keypoints": one.ravel().tolist(), "score": 0.5, "image_id": 1} for one in triples]


def truth(poses: np.ndarray, skeleton: Skeleton) -> dict[str, Any]:
    people = [one | {"id": i, "category_id": 1} for i, one in enumerate(results(poses))]
    return {"annotations": people, "categories": [{"id": 1, "keypoints": list(skeleton.keypoints)}]}


def fitted(poses: np.ndarray, skeleton: Skeleton, **options: Any) -> Anatomy:
    return fit_anatomy(truth(poses, skeleton), skeleton, **options)


def stretch_left_arm(pose: np.ndarray, skeleton: Skeleton, factor: float) -> None:
    shoulder, *arm = (skeleton.keypoints.index(f"left_{part}") for part in ("shoulder", "elbow", "wrist"))
    pose[arm] = pose[shoulder] + factor * (pose[arm] - pose[shoulder])


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda one: one.name)
def test_an_arm_three_times_too_long_is_the_only_implausible_pose(skeleton: Skeleton):
    rng = np.random.default_rng(0)
    anatomy = fitted(standing(rng, 500, skeleton), skeleton)
    poses = standing(rng, 20, skeleton, noise=0.5)
    nothing = anatomy.of_results(results(poses))
    assert nothing == Plausibility(share=0.0, examined=20, skipped=0, by_part={})
    stretch_left_arm(poses[7], skeleton, 3.0)
    found = anatomy.of_results(results(poses))
    assert found.share == 1 / 20
    assert found.by_part == {"left_shoulder-left_elbow": 1, "left_elbow-left_wrist": 1}
    stretch_left_arm(poses[7], skeleton, 0.1)  # now 0.3 times as long
    assert anatomy.of_results(results(poses)) == found


def test_a_joint_bent_the_other_way():
    rng = np.random.default_rng(1)
    anatomy = fitted(standing(rng, 500, COCO), COCO)
    poses = standing(rng, 5, COCO, noise=0.5)
    hip, knee, ankle = (COCO.keypoints.index(f"left_{part}") for part in ("hip", "knee", "ankle"))
    poses[2, ankle] = poses[2, knee] + (poses[2, hip] - poses[2, knee])  # the lower leg folded on the thigh
    found = anatomy.of_results(results(poses))
    assert found.share == 1 / 5
    assert found.by_part == {"left_hip-left_knee-left_ankle": 1}


def test_the_planted_share():
    rng = np.random.default_rng(2)
    anatomy = fitted(standing(rng, 4000, COCO), COCO, tail=0.001)
    poses = standing(rng, 2000, COCO)
    plausible = anatomy.of_results(results(poses)).share
    assert plausible is not None
    assert plausible < 2 * (18 + 27) * 0.001  # less than all limbs and angles together
    learnt = anatomy.of_annotations(truth(standing(rng, 2000, COCO), COCO)).share
    assert plausible == pytest.approx(learnt, abs=0.03)
    for pose in poses[:600]:
        stretch_left_arm(pose, COCO, 3.0)
    found = anatomy.of_results(results(poses))
    assert found.share == pytest.approx(0.3 + 0.7 * plausible, abs=0.02)
    assert found.examined == 2000


def test_convention_limits_are_quantiles_of_length_over_size():
    lengths = np.arange(1.0, 102.0)  # of the last limb; the three others are 10, and so is the pose's size
    poses = chains(np.zeros(101))
    poses[:, 4, 0] = poses[:, 3, 0] + lengths
    anatomy = fitted(poses, CHAIN, tail=0.05)
    size = 10 / anatomy.typical[0]
    assert anatomy.low[3] * size == pytest.approx(6, abs=1e-9)
    assert anatomy.high[3] * size == pytest.approx(96, abs=1e-9)
    assert anatomy.of_annotations(truth(poses, CHAIN)).by_part == {"d-e": 10}


def test_angles_on_both_sides_of_the_wrap_around_are_neighbours():
    rng = np.random.default_rng(3)
    anatomy = fitted(chains(rng.normal(0, 4, 1000)), CHAIN)  # at c, b and d are 180 degrees apart
    for bend, share in ((0.5, 0.0), (-0.5, 0.0), (8.0, 0.0), (-8.0, 0.0), (60.0, 1.0), (-60.0, 1.0)):
        found = anatomy.of_results(results(chains(np.array([bend]))))
        assert found.share == share, bend
        assert found.by_part == ({"b-c-d": 1} if share else {})


def test_angles_between_two_usual_arcs_are_not_usual():
    rng = np.random.default_rng(4)
    bends = rng.normal(0, 4, 1000) + rng.choice([-90, 90], 1000)
    anatomy = fitted(chains(bends), CHAIN)
    for bend, share in ((90.0, 0.0), (-90.0, 0.0), (0.0, 1.0), (180.0, 1.0)):
        assert anatomy.of_results(results(chains(np.array([bend])))).share == share, bend


def test_rare_angles_hold_twice_the_tail():
    bends = np.concatenate([np.zeros(990), np.full(6, 75.0), np.full(4, -75.0)])
    assert fitted(chains(bends), CHAIN, tail=0.0049).of_results(results(chains(bends))).share == 0.004
    assert fitted(chains(bends), CHAIN, tail=0.005).of_results(results(chains(bends))).share == 0.01
    assert fitted(chains(bends), CHAIN, tail=0.0).of_results(results(chains(bends))).share == 0


def test_rare_angles_beside_frequent_ones_are_the_last_to_go():
    bends = np.concatenate([np.full(980, 5.0), *(np.full(5, bend) for bend in (15.0, -5.0, 75.0, -75.0))])
    anatomy = fitted(
        chains(bends), CHAIN, tail=0.005
    )  # 5 and -5 degrees are on both sides of the wrap-around
    for bend, share in ((5.0, 0.0), (15.0, 0.0), (-5.0, 0.0), (75.0, 1.0), (-75.0, 1.0)):
        assert anatomy.of_results(results(chains(np.array([bend])))).share == share, bend


def test_position_size_and_rotation_do_not_matter():
    rng = np.random.default_rng(5)
    anatomy = fitted(standing(rng, 500, COCO, noise=4.0), COCO, tail=0.01)
    poses = standing(rng, 100, COCO, noise=5.0)
    expected = anatomy.of_results(results(poses))
    assert 0.2 < (expected.share or 0) < 0.98
    assert anatomy.of_results(results(placed(rng, poses - 1500, lean=np.pi))) == expected


def test_missing_keypoints_and_poses_without_enough_of_them():
    rng = np.random.default_rng(6)
    anatomy = fitted(standing(rng, 500, COCO), COCO)
    poses = standing(rng, 4, COCO, noise=0.5)
    poses[0, 5:] = np.nan  # nose, eyes and ears: four limbs
    poses[1, 3:] = np.nan  # nose and eyes: two limbs
    poses[2] = np.nan
    poses[3] = poses[3, 0]  # all keypoints in one position
    found = anatomy.of_results(results(poses))
    assert (found.share, found.examined, found.skipped) == (0.5, 2, 2)
    assert anatomy.of_results(results(poses[1:3])) == Plausibility(None, 0, 2, {})
    placeholder = results(poses[:1])
    placeholder[0]["keypoints"][15:] = [3.0, 4.0, 0.0] * 12  # as in cocoapi's example of results
    assert anatomy.of_results(placeholder) == anatomy.of_results(results(poses[:1]))
    assert anatomy.of_results([]) == Plausibility(None, 0, 0, {})


def test_what_is_not_learnt_from():
    rng = np.random.default_rng(7)
    poses = standing(rng, 200, COCO)
    expected = fitted(poses, COCO)
    annotations = truth(poses, COCO)
    wild = results(rng.uniform(0, 500, (50, 17, 2)))
    hidden = {"keypoints": [v for x, y, _ in np.reshape(wild[0]["keypoints"], (-1, 3)) for v in (x, y, 0)]}
    annotations["annotations"] += [one | {"category_id": 1, "iscrowd": 1} for one in wild]
    annotations["annotations"] += [one | {"category_id": 2, "keypoints": [1]} for one in wild]
    annotations["annotations"] += [{"category_id": 1, **hidden}] * 50
    annotations["categories"].append({"id": 2, "keypoints": ["tail"]})
    anatomy = fit_anatomy(annotations, COCO)
    np.testing.assert_array_equal(anatomy.low, expected.low)
    np.testing.assert_array_equal(anatomy.high, expected.high)
    np.testing.assert_array_equal(anatomy.usual, expected.usual)
    assert anatomy.of_annotations(annotations).skipped == 50


def test_the_people_learnt_from_are_usual_without_a_tail():
    rng = np.random.default_rng(10)
    for k in (2, 50):  # k different people, of whom nobody is like another
        poses = placed(rng, np.repeat(rng.uniform(0, 100, (k, 17, 2)), 60 // k + 1, axis=0))
        poses[rng.random(poses.shape[:2]) < 0.2] = np.nan
        assert fitted(poses, COCO, tail=0.0).of_annotations(truth(poses, COCO)).by_part == {}


def test_limbs_that_hardly_anybody_has_are_not_examined():
    rng = np.random.default_rng(8)
    poses = standing(rng, 300, COCO)
    poses[19:, COCO.keypoints.index("left_wrist")] = np.nan
    poses[:, COCO.keypoints.index("right_ankle")] = np.nan
    anatomy = fitted(poses, COCO)
    found = standing(rng, 1, COCO, noise=0.5)
    for name in ("left_wrist", "right_ankle"):
        found[0, COCO.keypoints.index(name)] += 900
    assert anatomy.of_results(results(found)).share == 0


def test_bad_input():
    rng = np.random.default_rng(9)
    people = truth(standing(rng, 30, COCO), COCO)
    for tail in (-0.1, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"expected a tail from 0 to below 0.5, got"):
            fit_anatomy(people, COCO, tail=tail)
    with pytest.raises(
        ValueError, match="annotations with the keypoints of skeleton 'crowdpose', got categor"
    ):
        fit_anatomy(people, CROWDPOSE)
    with pytest.raises(ValueError, match=r"annotations: expected the keys .*'categories'.* are missing"):
        fit_anatomy({"annotations": []}, COCO)
    few = people | {"annotations": people["annotations"][:19]}
    with pytest.raises(
        ValueError, match=r"expected at least 20 annotated people with 3 of the limbs .* got 19"
    ):
        fit_anatomy(few, COCO)
    short = people | {"annotations": [people["annotations"][0] | {"id": 5, "keypoints": [1, 2, 2]}]}
    with pytest.raises(ValueError, match="annotation 5 of image 1: expected 51 numbers in 'keypoints'"):
        fit_anatomy(short, COCO)
    anatomy = fit_anatomy(people, COCO)
    with pytest.raises(ValueError, match="result 1: 'keypoints': expected a list of finite numbers"):
        anatomy.of_results([people["annotations"][0], {"keypoints": [None] * 51}])
    with pytest.raises(
        ValueError, match="result 0: 'keypoints': expected a list of finite numbers, got None"
    ):
        anatomy.of_results([{"score": 1}])
    two = Skeleton.from_dict({"name": "two", "keypoints": ["a", "b", "c"], "limbs": [["a", "b"], ["b", "c"]]})
    with pytest.raises(
        ValueError, match="skeleton 'two', got 0; use the annotations of more people, or add lim"
    ):
        fitted(rng.uniform(0, 9, (30, 3, 2)), two)


REAL = {
    "coco": (COCO, "layouts/coco_person_keypoints_val2017.json.gz"),
    "crowdpose": (CROWDPOSE, "crowdpose/json/crowdpose_val.json.gz"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_people(shared_data: Path, name: str):
    skeleton, file = REAL[name]
    annotations = json.loads(gzip.decompress((shared_data / file).read_bytes()))
    people = annotations["annotations"]
    halves = [annotations | {"annotations": people[start::2]} for start in (0, 1)]
    anatomy = fit_anatomy(halves[0], skeleton)
    found = anatomy.of_annotations(halves[1])
    assert found.share is not None
    assert 0.005 < found.share < 0.1
    rng = np.random.default_rng(0)
    for person in halves[1]["annotations"]:
        triples = np.reshape(np.asarray(person["keypoints"], dtype=np.float64), (-1, 3))
        size = max(person["bbox"][2:])
        triples[:, :2] += rng.normal(0, 0.05 * size, (len(triples), 2))
        person["keypoints"] = triples.ravel().tolist()
    noisy = anatomy.of_annotations(halves[1])
    assert noisy.share is not None
    assert noisy.share > 5 * found.share
