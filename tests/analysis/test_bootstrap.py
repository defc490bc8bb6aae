"""Intervals of AP: the same figures as the evaluator's, on resampled images too."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_crowd import Entries, crowd

from swahr.analysis import Interval, ap_difference, ap_interval
from swahr.analysis.bootstrap import ResampledMetrics
from swahr.analysis.matching import match
from swahr.evaluation import Evaluator
from swahr.skeleton import COCO, CROWDPOSE, Skeleton


def repeated(truth: dict[str, Any], results: Entries, weights: list[int]) -> tuple[dict[str, Any], Entries]:
    """The data set with each image as often as its weight."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    found: Entries = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for _ in range(weight):
            number = len(content["images"])
            content["images"].append({**image, "id": number})
            for target, source in ((content["annotations"], truth["annotations"]), (found, results)):
                target += [
                    {**one, "image_id": number, "id": len(target) + i}
                    for i, one in enumerate(source, start=1)
                    if one["image_id"] == image["id"]
                ]
    return content, found


def common(metrics: dict[str, float], expected: dict[str, float]) -> dict[str, float]:
    return {name: expected[name] for name in metrics}


@pytest.mark.parametrize(("protocol", "skeleton"), [("coco", COCO), ("crowdpose", CROWDPOSE)])
@pytest.mark.parametrize("drawn", [False, True])
def test_metrics_are_those_of_the_evaluator(protocol: Any, skeleton: Skeleton, drawn: bool):
    truth, results = crowd(skeleton)
    metrics = ResampledMetrics(match(truth, results, skeleton, protocol=protocol))
    weights = np.ones(30, dtype=np.int64)
    if drawn:
        weights = np.bincount(np.random.default_rng(1).integers(30, size=30), minlength=30)
    content = repeated(truth, results, weights.tolist())
    expected = Evaluator(protocol)(*content, skeleton)
    found = metrics(weights)
    rounded = {n: round(v, 4) if n.startswith("AP_") else v for n, v in found.items()}
    assert 0.1 < found["AP"] < 0.9
    assert rounded == pytest.approx(common(found, expected), abs=1e-9)


@pytest.mark.parametrize(
    ("truth_file", "results_file", "protocol", "skeleton"),
    [
        (
            "person_keypoints_val2014_first100.json",
            "person_keypoints_val2014_fakekeypoints100_results.json",
            "coco",
            COCO,
        ),
        ("fce_example_crowdpose_val.json", "fce_example_crowdpose_preds.json", "crowdpose", CROWDPOSE),
    ],
)
def test_metrics_of_published_results(
    shared_data: Path, truth_file: str, results_file: str, protocol: Any, skeleton: Skeleton
):
    truth, results = (
        json.loads((shared_data / "results" / name).read_text()) for name in (truth_file, results_file)
    )
    metrics = ResampledMetrics(match(truth, results, skeleton, protocol=protocol))
    found = metrics(np.ones(metrics.images, dtype=np.int64))
    expected = Evaluator(protocol)(truth, results, skeleton)
    for name, value in common(found, expected).items():
        assert found[name] == pytest.approx(value, abs=6e-5 if name.startswith("AP_") else 1e-9)


def test_intervals_hold_the_value_and_repeat_with_the_seed():
    truth, results = crowd(COCO)
    before = copy.deepcopy((truth, results))
    intervals = ap_interval(truth, results, COCO, resamples=200)
    assert (truth, results) == before
    assert list(intervals) == ["AP", "AP50", "AP75", "APM", "APL"]
    assert all(one.low < one.value < one.high for one in intervals.values())
    assert ap_interval(truth, results, COCO, resamples=200) == intervals
    assert ap_interval(truth, results, COCO, resamples=200, seed=1) != intervals
    narrower = ap_interval(truth, results, COCO, resamples=200, confidence=0.5)["AP"]
    assert intervals["AP"].low < narrower.low < narrower.high < intervals["AP"].high


def test_intervals_of_more_images_are_narrower():
    few, many = (ap_interval(*crowd(COCO, images=count), COCO, resamples=200)["AP"] for count in (20, 180))
    # The standard error falls with the root of the number of images, here to a third.
    assert 0.2 < (many.high - many.low) / (few.high - few.low) < 0.5


def test_differences_are_paired():
    truth, results = crowd(COCO)
    nothing = ap_difference(truth, results, results, COCO, resamples=50)
    assert set(nothing.values()) == {Interval(0.0, 0.0, 0.0)}
    worse = crowd(COCO, noise=0.12)[1]
    first, second = (ap_interval(truth, one, COCO, resamples=200)["AP"] for one in (results, worse))
    paired = ap_difference(truth, results, worse, COCO, resamples=200)["AP"]
    assert paired.value == pytest.approx(first.value - second.value, abs=1e-12)
    assert paired.low > 0  # although the intervals of the two overlap
    assert first.low < second.high


def test_metrics_without_people_are_left_out():
    truth, results = crowd(COCO)
    for person in truth["annotations"]:
        person["area"] = 40.0**2
    intervals = ap_interval(truth, results, COCO, resamples=20)
    assert list(intervals) == ["AP", "AP50", "AP75", "APM"]
    truth["annotations"] = []
    assert ap_interval(truth, results, COCO, resamples=20) == {}
    assert ap_interval(truth, [], COCO, resamples=20) == {}


def test_resamples_without_large_people_do_not_count_for_them():
    truth, results = crowd(COCO, images=4)
    for person in truth["annotations"]:
        person["area"] = 40.0**2
    truth["annotations"][0].update(area=200.0**2, num_keypoints=17)
    intervals = ap_interval(truth, results, COCO, resamples=50)
    assert intervals["APL"].low <= intervals["APL"].value <= intervals["APL"].high


def test_no_results():
    truth, _ = crowd(COCO)
    assert set(ap_interval(truth, [], COCO, resamples=20).values()) == {Interval(0.0, 0.0, 0.0)}


@pytest.mark.parametrize("settings", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 95.0}])
def test_settings_out_of_range(settings: dict[str, Any]):
    with pytest.raises(ValueError, match="at least one resample and a confidence between 0 and 1"):
        ap_interval(*crowd(COCO, images=3), COCO, **settings)


@pytest.mark.usefixtures("untyped")
def test_unknown_protocol_and_results_of_other_images():
    truth, results = crowd(COCO)
    with pytest.raises(ValueError, match="protocol"):
        ap_interval(truth, results, COCO, protocol="mpii")
    with pytest.raises(ValueError, match="image_id 99"):
        ap_interval(truth, [{**results[0], "image_id": 99}], COCO)
