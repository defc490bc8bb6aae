"""Real and synthetic people, encoded perfectly, are decoded where they were."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import round_trip
import torch

from swahr.cli.command import compose_config
from swahr.geometry import map_from_input
from swahr.structures import Annotations
from swahr.targets import TargetEncoder

Metrics = dict[str, dict[str, float]]
REAL = {
    "crowdpose": ("crowdpose/json/crowdpose_val.json.gz", "crowdpose"),
    "coco": ("layouts/coco_person_keypoints_val2017.json.gz", "coco"),
}


@pytest.fixture
def metrics(tmp_path: Path) -> Callable[..., Metrics]:
    """The experiment's metrics of an annotation file."""

    def run(annotations: Path, *overrides: str) -> Metrics:
        output = tmp_path / "run"
        config = compose_config("round_trip", [f"annotations={annotations}", f"output={output}", *overrides])
        result = round_trip.round_trip(config)
        assert json.loads((output / "metrics.json").read_text())["metrics"] == result
        return result

    return run


@pytest.mark.parametrize("name", REAL)
def test_real_people_who_do_not_coincide_come_back(
    metrics: Callable[..., Metrics], shared_data: Path, name: str
) -> None:
    path, protocol = REAL[name]
    found = metrics(shared_data / path, f"evaluation={protocol}", "limit=30")
    assert found["all"]["images"] == 30
    assert 15 < found["separated"]["images"] < 30
    assert found["separated"]["AP"] >= 0.99
    assert found["separated"]["found"] == found["separated"]["people"]
    assert found["all"]["AP"] <= found["separated"]["AP"]


def test_synthetic_people_come_back_and_an_empty_image_stays_empty(
    metrics: Callable[..., Metrics], annotation_file
) -> None:
    annotations = annotation_file([[(20, 30, 300), (200, 31, 180), (401, 207, 90)], [], [(7, 9, 60)]])
    found = metrics(annotations)
    assert found["separated"] == found["all"]
    assert found["all"]["AP"] == pytest.approx(1.0)
    assert (found["all"]["images"], found["all"]["people"], found["all"]["found"]) == (3, 4, 4)


def test_people_at_one_position_are_not_separated(metrics: Callable[..., Metrics], annotation_file) -> None:
    annotations = annotation_file([[(20, 30, 300), (20, 30, 300)], [(200, 31, 180)]])
    found = metrics(annotations)
    assert (found["separated"]["images"], found["separated"]["people"]) == (1, 1)
    assert found["separated"]["AP"] == pytest.approx(1.0)
    assert found["all"]["AP"] < 0.9


def test_a_shift_of_the_maps_costs_accuracy(metrics: Callable[..., Metrics], annotation_file) -> None:
    annotations = annotation_file([[(200, 131, 36)]])
    shifted = ("targets=official", "+aggregate.alignment=centre")
    assert metrics(annotations, *shifted, "decode=raw")["all"]["AP"] < 0.9


@pytest.mark.parametrize("override", ["aggregate.flip=true", "aggregate.test_scales=[0.5,1.0]"])
def test_other_views_are_refused(metrics: Callable[..., Metrics], annotation_file, override: str) -> None:
    with pytest.raises(ValueError, match="test scale 1 only"):
        metrics(annotation_file([[(20, 30, 300)]]), override)


def test_separation_is_that_of_the_same_labelled_keypoint() -> None:
    keypoints = np.array([[[0, 0], [50, 0]], [[7, 9], [0, 1]], [[1, 1], [90, 90]]], dtype=np.float64)
    visibility = np.array([[2, 1], [2, 2], [0, 2]])
    people = Annotations(keypoints, visibility, np.ones(3))
    assert round_trip.separation(people) == 9.0
    nobody = Annotations(np.zeros((0, 2, 2)), np.zeros((0, 2), dtype=np.int64), np.zeros(0))
    assert round_trip.separation(nobody) == np.inf


def test_a_perfect_network_predicts_its_targets() -> None:
    keypoints = np.array([[[10.0, 20.0]], [[50.0, 41.0]], [[0.0, 0.0]]])
    people = Annotations(keypoints, np.array([[2], [1], [0]]), np.ones(3))
    encode = TargetEncoder(strides=(4, 2), centre="unbiased")
    coarse, fine = round_trip.PerfectNetwork(people, encode)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert (coarse.stride, fine.stride, fine.tags) == (4, 2, None)
    assert coarse.heatmaps.shape == (1, 1, 16, 16)
    assert fine.heatmaps.shape == (1, 1, 32, 32)
    for index, tag in enumerate((0.0, 2.0)):
        x, y = map_from_input(4).apply(keypoints[index, 0]).astype(int)
        assert coarse.tags[0, 0, y, x] == tag
    assert set(coarse.tags.unique().tolist()) == {0.0, 2.0}  # the third person has no label
