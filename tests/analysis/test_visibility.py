"""AP of visible and of occluded keypoints alone."""

import copy
from typing import Any

import numpy as np
import pytest
from random_crowd import crowd

from swahr.analysis import visibility_metrics
from swahr.evaluation import Evaluator
from swahr.skeleton import COCO, CROWDPOSE

Entry = dict[str, Any]
SCALE = 100.0  # the square root of each person's area
OCCLUDED = tuple(range(5, 11))  # shoulders, elbows and wrists


def person(number: int, occluded: tuple[int, ...] = OCCLUDED, **fields: Any) -> Entry:
    k = np.arange(17)
    triples = np.stack([1000.0 * number + 10 * (k % 4), 10.0 * (k // 4), np.full(17, 2)], axis=1)
    triples[list(occluded), 2] = 1
    return {
        "id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": SCALE**2, "num_keypoints": 17,
        "bbox": [1000.0 * number, 0.0, 40.0, 50.0], "keypoints": triples.ravel().tolist(), **fields,
    }  # fmt: skip


def found(
    annotation: Entry, keypoints: tuple[int, ...] = (), similarity: float = 1.0, score: float = 0.5
) -> Entry:
    """A detection; the similarity of some ``keypoints`` with the true ones is as given, 0 for far away."""
    triples = np.reshape(annotation["keypoints"], (-1, 3)).copy()
    for k in keypoints:
        distance = SCALE * 2 * COCO.sigmas[k] * np.sqrt(-2 * np.log(similarity)) if similarity else 5000.0
        triples[k, 1] += distance
    return {"image_id": 1, "category_id": 1, "score": score, "keypoints": triples.ravel().tolist()}


def truth(*people: Entry) -> Entry:
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    return {"images": [{"id": 1}], "annotations": list(people), "categories": [category]}


def test_wrong_where_occluded_and_right_where_visible():
    annotation = person(1)
    measured = visibility_metrics(truth(annotation), [found(annotation, OCCLUDED, 0.0)], COCO)
    assert measured["visible"]["AP"] == pytest.approx(1, abs=1e-12)
    assert measured["occluded"]["AP"] == 0
    visible = tuple(set(range(17)) - {*OCCLUDED})
    measured = visibility_metrics(truth(annotation), [found(annotation, visible, 0.0)], COCO)
    assert measured["visible"]["AP"] == 0
    assert measured["occluded"]["AP"] == pytest.approx(1, abs=1e-12)


def test_oks_is_that_of_the_remaining_keypoints():
    annotation = person(1)
    measured = visibility_metrics(truth(annotation), [found(annotation, OCCLUDED, 0.71)], COCO)
    assert measured["occluded"]["AP"] == pytest.approx(0.5, abs=1e-12)  # OKS from 0.5 to 0.7 of 0.5 to 0.95
    assert measured["occluded"]["AP75"] == 0
    assert measured["visible"]["AP"] == pytest.approx(1, abs=1e-12)


def test_people_without_such_keypoints_are_ignored_with_their_detections():
    hidden, seen, uncounted = person(1), person(2, ()), person(3, num_keypoints=0)
    results = [found(hidden, score=0.3), found(seen, score=0.9), found(uncounted, score=0.8)]
    everybody = truth(hidden, seen, uncounted)
    measured = visibility_metrics(everybody, results, COCO)
    assert measured["occluded"]["AP"] == pytest.approx(1, abs=1e-12)
    # Without the third person's detection: nobody is missed whom the file does not count.
    measured = visibility_metrics(everybody, results[:2], COCO)
    assert measured["occluded"]["AR"] == measured["visible"]["AR"] == 1
    nobody = visibility_metrics(truth(seen), results[1:2], COCO)["occluded"]
    assert set(nobody.values()) == {-1}


@pytest.mark.parametrize("protocol", ["coco", "crowdpose"])
def test_of_visible_keypoints_it_is_the_evaluators(protocol: str):
    skeleton = CROWDPOSE if protocol == "crowdpose" else COCO
    annotations, results = crowd(skeleton)
    untouched = copy.deepcopy(annotations)
    evaluator = Evaluator(protocol)
    measured = visibility_metrics(annotations, results, skeleton, evaluator=evaluator)
    assert measured["visible"] == pytest.approx(evaluator(annotations, results, skeleton), abs=1e-12)
    assert set(measured["occluded"].values()) == {-1}
    assert annotations == untouched


@pytest.mark.parametrize("value", [3, 0.5, -1, None, float("nan")])
def test_an_unknown_visibility(value: Any):
    annotation = person(7)
    annotation["keypoints"][5] = value
    with pytest.raises(ValueError, match=r"annotation 7 of image 1: expected visibilities 0 .* got "):
        visibility_metrics(truth(annotation), [], COCO)


def test_malformed_annotations_get_the_evaluators_errors():
    with pytest.raises(ValueError, match="expected 51 numbers in 'keypoints'"):
        visibility_metrics(truth(person(1) | {"keypoints": [1, 2, 2]}), [], COCO)
    without = person(1)
    del without["keypoints"]
    with pytest.raises(ValueError, match="expected 'keypoints' in every annotation"):
        visibility_metrics(truth(without), [], COCO)
    other = person(2) | {"category_id": 2, "keypoints": [1, 2, 3]}  # another skeleton is ignored
    everything = truth(person(1), other)
    everything["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose"]})
    assert visibility_metrics(everything, [found(person(1))], COCO)["visible"]["AP"] == pytest.approx(1)
