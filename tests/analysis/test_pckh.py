"""Keypoints just within and just beyond half a head; what the head's size is."""

from typing import Any

import numpy as np
import pytest

from swahr.analysis import PCKh, pckh
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

Entry = dict[str, Any]
SCALE = 100.0  # the square root of each person's area


def person(skeleton: Skeleton = CROWDPOSE, x: float = 0.0, **positions: tuple[float, float]) -> Entry:
    """Somebody whose keypoints lie on a grid, far from each other, but for some ``positions``."""
    k = np.arange(skeleton.num_keypoints)
    grid = np.stack([50 + x + SCALE * (k % 4), 50 + SCALE * (k // 4), np.full(len(k), 2)], axis=1)
    for name, (dx, dy) in positions.items():
        grid[skeleton.keypoints.index(name), :2] = x + dx, dy
    return {
        "id": 1 + int(x), "image_id": 1, "category_id": 1, "iscrowd": 0, "area": SCALE**2,
        "bbox": [x, 0.0, 4 * SCALE, 5 * SCALE], "keypoints": grid.ravel().tolist(),
    }  # fmt: skip


def unlabelled(annotation: Entry, *names: str, skeleton: Skeleton) -> Entry:
    triples = np.reshape(annotation["keypoints"], (-1, 3)).copy()
    triples[[skeleton.keypoints.index(name) for name in names]] = 0
    return annotation | {"keypoints": triples.ravel().tolist()}


def found(annotation: Entry, skeleton: Skeleton, **shifts: float) -> Entry:
    """A detection of somebody, with keypoints shifted downwards."""
    triples = np.reshape(annotation["keypoints"], (-1, 3)).copy()
    for name, shift in shifts.items():
        triples[skeleton.keypoints.index(name), 1] += shift
    return {"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": triples.ravel().tolist()}


def truth(*people: Entry, skeleton: Skeleton = CROWDPOSE) -> Entry:
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}
    images = [{"id": 1, "file_name": "1.jpg", "crowdIndex": 0.1}]
    return {"images": images, "annotations": list(people), "categories": [category]}


def shares_of_wrists(annotation: Entry, skeleton: Skeleton, limit: float, **options: Any) -> PCKh:
    """With the left wrist just within, and the right wrist just beyond the limit."""
    result = found(annotation, skeleton, left_wrist=limit - 0.01, right_wrist=limit + 0.01)
    return pckh(truth(annotation, skeleton=skeleton), [result], skeleton, **options)


HEADS = {  # skeleton, positions of the head, what is not labelled, half of the head's size, without_head
    "head and neck": (CROWDPOSE, {"head": (0, 10), "neck": (24, 42)}, (), 20.0, 0),
    "neck only": (CROWDPOSE, {}, ("head",), 17.5, 1),
    "ears": (COCO, {"left_ear": (15, 10), "right_ear": (0, 30), "nose": (5, 15), "left_eye": (9, 11),
                    "right_eye": (3, 20)}, (), 18.75, 0),
    "profile": (COCO, {"left_ear": (15, 10), "nose": (0, 30), "left_eye": (5, 11)},
                ("right_ear", "right_eye"), 18.75, 0),
    "eyes and nose only": (COCO, {}, ("left_ear", "right_ear"), 17.5, 1),
    "one ear only": (COCO, {}, ("nose", "left_eye", "right_eye", "right_ear"), 17.5, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_within_half_a_head(case: str):
    skeleton, positions, absent, limit, without_head = HEADS[case]
    annotation = unlabelled(person(skeleton, **positions), *absent, skeleton=skeleton)
    measured = shares_of_wrists(annotation, skeleton, limit)
    labelled = skeleton.num_keypoints - len(absent)
    assert measured.overall == pytest.approx((labelled - 1) / labelled, abs=1e-12)
    assert measured.by_keypoint == {
        name: None if name in absent else float(name != "right_wrist") for name in skeleton.keypoints
    }
    assert (measured.people, measured.without_head) == (1, without_head)


def test_another_fraction_and_the_area_of_another_protocol():
    annotation = person(head=(0, 10), neck=(24, 42))
    assert shares_of_wrists(annotation, CROWDPOSE, 8.0, fraction=0.2).overall == 13 / 14
    headless = unlabelled(annotation, "head", "neck", skeleton=CROWDPOSE)
    limit = 0.5 * 0.35 * (0.53 * 400 * 500) ** 0.5
    assert shares_of_wrists(headless, CROWDPOSE, limit, protocol="crowdpose").overall == 11 / 12


def test_missed_people_count_and_false_people_do_not():
    people = [person(), person(x=1000.0)]
    false = found(person(x=5000.0), CROWDPOSE) | {"score": 0.9}
    measured = pckh(truth(*people), [found(people[0], CROWDPOSE, left_knee=400.0), false], CROWDPOSE)
    assert measured.overall == 13 / 28
    assert measured.by_keypoint["left_knee"] == 0
    assert measured.by_keypoint["right_knee"] == 0.5
    assert measured.people == 2
    nobody_found = pckh(truth(*people), [], CROWDPOSE)
    assert nobody_found.overall == 0.0


def test_a_missing_keypoint_is_not_found_at_the_origin():
    annotation = person(left_hip=(1.0, 1.0))
    result = found(annotation, CROWDPOSE)
    position = 3 * CROWDPOSE.keypoints.index("left_hip")
    result["keypoints"][position : position + 3] = [0, 0, 0]
    assert pckh(truth(annotation), [result], CROWDPOSE).by_keypoint["left_hip"] == 0
    result["keypoints"][position + 2] = 0.1
    assert pckh(truth(annotation), [result], CROWDPOSE).by_keypoint["left_hip"] == 1


def test_a_keypoint_with_score_zero_is_missing_unless_the_tool_writes_no_scores():
    annotation = person()
    result = found(annotation, CROWDPOSE)
    position = 3 * CROWDPOSE.keypoints.index("left_hip")
    result["keypoints"][position + 2] = 0
    assert pckh(truth(annotation), [result], CROWDPOSE).by_keypoint["left_hip"] == 0
    result["keypoints"][2::3] = [0] * 14
    assert pckh(truth(annotation), [result], CROWDPOSE).overall == 1


def test_nothing_labelled_and_people_who_do_not_count():
    ignored = [person() | {"num_keypoints": 0}, person() | {"iscrowd": 1, "id": 2}]
    for people in ([], ignored):
        measured = pckh(truth(*people), [found(person(), CROWDPOSE)], CROWDPOSE)
        assert measured == PCKh(None, dict.fromkeys(CROWDPOSE.keypoints), 0, 0)


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected a positive fraction of the head's size, got -0.5"):
        pckh(truth(person()), [], CROWDPOSE, fraction=-0.5)
    with pytest.raises(ValueError, match="expected 42 numbers in 'keypoints'"):
        pckh(truth(person()), [found(person(COCO), COCO)], CROWDPOSE)
