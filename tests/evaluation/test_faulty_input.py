"""Ground truth and results with faults: the right metrics, those of the official tool, or a clear error."""

import copy
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import coco as coco_tools
from pycocotools.cocoeval import COCOeval

from swahr.evaluation import Evaluator, check_evaluable, person_category, results_from_poses
from swahr.skeleton import COCO, CROWDPOSE
from swahr.structures import Poses

BACKENDS = ["faster-coco-eval", "pycocotools"]
Entries = list[dict[str, Any]]


def crowd(images: int = 40, seed: int = 0) -> tuple[dict[str, Any], Entries]:
    """Up to three people an image, found with noise, some of them twice, and some who are not there."""
    rng = np.random.default_rng(seed)
    people, results = [], []
    for image_id in range(1, images + 1):
        for number in range(int(rng.integers(0, 4))):
            size = float(rng.uniform(40, 200))
            points = rng.uniform(0, size, (17, 2)) + number * 220
            person = {"id": len(people) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            box = [220.0 * number, 220.0 * number, size, size]
            people.append(
                person | {"bbox": box, "area": size**2 / 2, "num_keypoints": 17, "keypoints": flat(points, 2)}
            )
            for _ in range(int(rng.integers(0, 3))):
                found = points + rng.normal(0, rng.uniform(0, 0.1) * size, points.shape)
                results.append(result(image_id, found, float(rng.integers(1, 9)) / 10))  # many scores tie
        if rng.uniform() < 0.3:
            results.append(result(image_id, rng.uniform(0, 600, (17, 2)), float(rng.uniform())))
    truth = {
        "images": [
            {"id": i, "height": 700, "width": 700, "crowdIndex": i / images} for i in range(1, images + 1)
        ],
        "annotations": people,
        "categories": [COCO.to_category()],
    }
    return truth, results


def flat(points: np.ndarray, value: float) -> list[float]:
    return [float(number) for x, y in points for number in (x, y, value)]


def result(image_id: int, points: np.ndarray, score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "keypoints": flat(points, 1), "score": score}


def official_ap(truth: dict[str, Any], results: Entries, folder: Path) -> float:
    """The AP of pycocotools on files, used as its users do."""
    names = folder / "truth.json", folder / "results.json"
    for name, content in zip(names, (truth, results), strict=True):
        name.write_text(json.dumps(content), encoding="utf-8")
    data = coco_tools.COCO(str(names[0]))
    tool = COCOeval(data, data.loadRes(str(names[1])), "keypoints")
    tool.evaluate()
    tool.accumulate()
    tool.summarize()
    return float(tool.stats[0])


def exactly(metrics: dict[str, float]) -> Any:
    return pytest.approx(metrics, abs=1e-12)


def renumbered(truth: dict[str, Any], results: Entries, change: Callable[[int], Any]) -> Any:
    images = [image | {"id": change(image["id"])} for image in truth["images"]]
    people = [one | {"image_id": change(one["image_id"])} for one in truth["annotations"]]
    changed = [one | {"image_id": change(one["image_id"])} for one in results]
    return truth | {"images": images, "annotations": people}, changed


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_official_tool_gives_the_same_ap_with_ties_and_duplicates(tmp_path: Path, backend: str) -> None:
    for seed in range(3):
        truth, results = crowd(seed=seed)
        for given in (results, results + results[::2], results[::-1]):
            ap = Evaluator("coco", backend)(truth, given, COCO)["AP"]
            assert ap == pytest.approx(official_ap(truth, given, tmp_path), abs=1e-12)
            assert 0.1 < ap < 0.9


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda i: 16_094_592_000_000_000 + i,
        lambda i: 2**62 + i,
        lambda i: -i - 2**55,
        lambda i: f"2024-{i:03}",
    ],
)
def test_image_ids_of_any_size_give_the_same_metrics(backend: str, change: Callable[[int], Any]) -> None:
    truth, results = crowd()
    results = [one | {"score": one["score"] + i * 1e-6} for i, one in enumerate(results)]  # without ties
    expected = Evaluator()(truth, results, COCO)
    assert Evaluator("coco", backend)(*renumbered(truth, results, change), COCO) == exactly(expected)


def test_large_image_ids_in_crowdposes_protocol() -> None:
    truth, results = crowd()
    expected = Evaluator("crowdpose")(truth, results, COCO)
    assert len({expected[name] for name in ("AP_easy", "AP_medium", "AP_hard")}) == 3
    large = renumbered(truth, results, lambda i: 10**17 + i)
    assert Evaluator("crowdpose")(*large, COCO) == exactly(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_of_other_categories_are_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    truth, results = crowd()
    others = [one | {"category_id": 2, "score": 0.99} for one in results]
    truth["categories"] = [*truth["categories"], {"id": 2, "name": "dog"}]
    expected = Evaluator()(truth, results, COCO)
    with caplog.at_level(logging.WARNING):
        metrics = Evaluator("coco", backend)(truth, results + others, COCO)
    assert metrics == exactly(expected)
    assert metrics["AP"] == pytest.approx(official_ap(truth, results + others, tmp_path), abs=1e-12)
    assert f"{len(others)} of {2 * len(others)} results have category_id 2, but people have 1" in caplog.text


def test_results_none_of_which_is_of_the_category() -> None:
    truth, results = crowd()
    truth["categories"][0]["id"] = 3
    for person in truth["annotations"]:
        person["category_id"] = 3
    with pytest.raises(
        ValueError, match=r"have category_id 1, but people have 3 .*; write the ground truth's"
    ):
        Evaluator()(truth, results, COCO)


@pytest.mark.parametrize("category", [3, "person"])
def test_our_results_carry_the_category_of_the_ground_truth(tmp_path: Path, category: int | str) -> None:
    truth, results = crowd()
    expected = Evaluator()(truth, results, COCO)
    truth["categories"] = [{"id": 1, "name": "dog"}, COCO.to_category() | {"id": category}]
    for person in truth["annotations"]:
        person["category_id"] = category
    poses = {
        image["id"]: as_poses([one for one in results if one["image_id"] == image["id"]])
        for image in truth["images"]
    }
    ours = results_from_poses(poses, category_id=person_category(truth, COCO))
    assert {one["category_id"] for one in ours} == {category}
    assert Evaluator()(truth, ours, COCO) == exactly(expected)
    if category == 3:
        assert official_ap(truth, ours, tmp_path) == pytest.approx(expected["AP"], abs=1e-12)


def as_poses(results: Entries) -> Poses:
    keypoints = np.array([one["keypoints"] for one in results], dtype=np.float64).reshape(-1, 17, 3)
    return Poses(
        keypoints=keypoints[..., :2] + 0.5,
        scores=keypoints[..., 2],
        score=np.array([one["score"] for one in results], dtype=np.float64),
        present=np.ones(keypoints.shape[:2], dtype=bool),
        skeleton=COCO,
    )


def test_category_ids_as_text_are_the_same_categories() -> None:
    truth, results = crowd()
    expected = Evaluator()(truth, results, COCO)
    for person in truth["annotations"][::2]:
        person["category_id"] = "1"
    assert Evaluator()(truth, results, COCO) == exactly(expected)
    assert Evaluator()(truth, [one | {"category_id": "1"} for one in results], COCO) == exactly(expected)


def test_num_keypoints_null_is_counted() -> None:
    truth, results = crowd()
    expected = Evaluator()(truth, results, COCO)
    for person in truth["annotations"]:
        person["num_keypoints"] = None
    assert Evaluator()(truth, results, COCO) == exactly(expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("annotations", {"iscrowd": None}, r"annotation 1 of image \d+: .* iscrowd 0 or 1, got 17 and None"),
        ("annotations", {"iscrowd": "0"}, "iscrowd 0 or 1, got 17 and '0'"),
        ("annotations", {"num_keypoints": "17"}, "expected an integer num_keypoints .* got '17' and 0"),
        ("annotations", {"keypoints": None}, "annotation 1 .*'keypoints': expected a list of finite numbers"),
        ("annotations", {"keypoints": [1, 2, 2]}, "annotation 1 of image .*expected 51 numbers"),
        ("annotations", {"area": None}, "annotation 1 .*'area': expected a list of finite numbers"),
        ("annotations", {"area": float("nan")}, "annotation 1 .*'area': expected a list of finite numbers"),
        ("annotations", {"bbox": [1, 2, 3]}, "annotation 1 .*'bbox': expected 4 numbers, got"),
        ("annotations", {"image_id": 99}, r"annotations contain 1 images that are not .*image_id 99"),
        ("results", {"score": float("nan")}, r"result of image \d+: 'score': expected a list of finite"),
        ("results", {"score": "0.9"}, "'score': expected a list of finite numbers"),
        ("results", {"score": None}, "'score': expected a list of finite numbers"),
        ("results", {"keypoints": [float("nan")] * 51}, "result of image .*'keypoints': expected a list of"),
        ("results", {"keypoints": [1.0] * 50}, "result of image .*expected 51 numbers"),
        ("results", {"image_id": "x"}, r"results contain 1 images that are not .*image_id x"),
    ],
)
def test_malformed_entries_are_named(backend: str, part: str, change: dict[str, Any], message: str) -> None:
    truth, results = crowd()
    entries = truth["annotations"] if part == "annotations" else results
    entries[0] |= change
    with pytest.raises(ValueError, match=message):
        Evaluator("coco", backend)(truth, results, COCO)


def test_annotations_without_keypoints_and_repeated_images() -> None:
    truth, results = crowd()
    lacking = copy.deepcopy(truth)
    del lacking["annotations"][3]["keypoints"]
    with pytest.raises(ValueError, match=r"expected 'keypoints' in every annotation, .* \(the first: id 4"):
        Evaluator()(lacking, results, COCO)
    with pytest.raises(ValueError, match=r"the ground truth repeats the images \[2\]"):
        Evaluator()(truth | {"images": [*truth["images"], truth["images"][1]]}, results, COCO)


@pytest.mark.parametrize("protocol", ["coco", "crowdpose"])
def test_the_evaluator_can_be_tried_without_results(protocol: Any) -> None:
    truth, _ = crowd()
    check_evaluable(Evaluator(protocol), truth, COCO)
    for person in truth["annotations"]:
        person["num_keypoints"] = 0
    with pytest.raises(ValueError, match=r"no person that counts among \d+ annotations .* AP would be -1"):
        check_evaluable(Evaluator(protocol), truth, COCO)
    truth["annotations"] = []
    with pytest.raises(ValueError, match=r"among 0 annotations in 40 images, so that AP would be -1"):
        check_evaluable(Evaluator(protocol), truth, COCO)


def test_a_trial_finds_what_the_protocol_lacks() -> None:
    truth, _ = crowd()
    del truth["images"][4]["crowdIndex"]
    with pytest.raises(ValueError, match=r"needs the crowdIndex of every image.*but 1 images have none"):
        check_evaluable(Evaluator("crowdpose"), truth, COCO)
    with pytest.raises(ValueError, match="no category with the 14 keypoints"):
        check_evaluable(Evaluator(), truth, CROWDPOSE)


@pytest.mark.parametrize("value", [None, "0.5", float("nan"), -1, float("inf"), True, [0.5]])
def test_a_crowd_index_that_is_none(value: object) -> None:
    truth, _ = crowd()
    truth["images"][4]["crowdIndex"] = value
    with pytest.raises(ValueError, match=f"crowdIndex.*a number from 0.*has {re.escape(repr(value))}"):
        check_evaluable(Evaluator("crowdpose"), truth, COCO)


def test_crowd_indices_in_percent() -> None:
    truth, _ = crowd()
    for image in truth["images"]:
        image["crowdIndex"] *= 100
    with pytest.raises(ValueError, match="looks like percentages"):
        check_evaluable(Evaluator("crowdpose"), truth, COCO)
