"""Real and made-up people, encoded perfectly, come back where they were."""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from swahr.cli.command import compose_config
from swahr.geometry import map_from_input
from swahr.skeleton import COCO
from swahr.structures import Annotations
from swahr.target import TargetEncoder

Figures = dict[str, dict[str, float]]
REAL = {
    "crowdpose": ("crowdpose/json/crowdpose_val.json.gz", "crowdpose"),
    "coco": ("layouts/coco_person_keypoints_val2017.json.gz", "coco"),
}


@pytest.fixture(scope="session")
def experiment(repository: Path) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("round_trip", repository / "experiments" / "round_trip.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks for it there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def figures(experiment: ModuleType, tmp_path: Path) -> Callable[..., Figures]:
    """What the experiment says of an annotation file."""

    def run(annotations: Path, *overrides: str) -> Figures:
        output = tmp_path / "run"
        config = compose_config("round_trip", [f"annotations={annotations}", f"output={output}", *overrides])
        result = experiment.round_trip(config)
        assert json.loads((output / "metrics.json").read_text())["figures"] == result
        return result

    return run


def person(left: float, top: float, height: float, image: int, identity: int) -> dict[str, Any]:
    """A person of COCO's 17 keypoints on a grid of whole pixels, all labelled but the first ear."""
    step = round(height / 6)
    keypoints = [[left + step * (i % 3), top + step * (i // 3), 2] for i in range(COCO.num_keypoints)]
    keypoints[3] = [0, 0, 0]
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "bbox": [left, top, 2 * step, 5 * step],
        "area": 5.0 * step**2,
        "keypoints": [value for keypoint in keypoints for value in keypoint],
        "num_keypoints": COCO.num_keypoints - 1,
        "iscrowd": 0,
    }


def annotation_file(folder: Path, images: Sequence[Sequence[tuple[float, float, float]]]) -> Path:
    """Images 480 pixels high and 640 wide with people of (left, top, height)."""
    people = [
        person(*place, image=image, identity=100 * image + i)
        for image, places in enumerate(images, start=1)
        for i, place in enumerate(places)
    ]
    path = folder / "people.json"
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    sizes = [{"id": i + 1, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in range(len(images))]
    path.write_text(json.dumps({"images": sizes, "annotations": people, "categories": [category]}))
    return path


@pytest.mark.parametrize("name", REAL)
def test_real_people_who_do_not_coincide_come_back(
    figures: Callable[..., Figures], shared_data: Path, name: str
) -> None:
    path, protocol = REAL[name]
    found = figures(shared_data / path, f"evaluation={protocol}", "limit=30")
    assert found["all"]["images"] == 30
    assert 15 < found["separated"]["images"] < 30
    assert found["separated"]["AP"] >= 0.99
    assert found["separated"]["found"] == found["separated"]["people"]
    assert found["all"]["AP"] <= found["separated"]["AP"]


def test_made_up_people_come_back_and_an_empty_image_stays_empty(
    figures: Callable[..., Figures], tmp_path: Path
) -> None:
    annotations = annotation_file(
        tmp_path, [[(20, 30, 300), (200, 31, 180), (401, 207, 90)], [], [(7, 9, 60)]]
    )
    found = figures(annotations)
    assert found["separated"] == found["all"]
    assert found["all"]["AP"] == pytest.approx(1.0)
    assert (found["all"]["images"], found["all"]["people"], found["all"]["found"]) == (3, 4, 4)


def test_people_in_one_place_are_not_told_apart(figures: Callable[..., Figures], tmp_path: Path) -> None:
    annotations = annotation_file(tmp_path, [[(20, 30, 300), (20, 30, 300)], [(200, 31, 180)]])
    found = figures(annotations)
    assert (found["separated"]["images"], found["separated"]["people"]) == (1, 1)
    assert found["separated"]["AP"] == pytest.approx(1.0)
    assert found["all"]["AP"] < 0.9


def test_a_shift_of_the_maps_costs_accuracy(figures: Callable[..., Figures], tmp_path: Path) -> None:
    annotations = annotation_file(tmp_path, [[(200, 131, 36)]])
    assert figures(annotations, "target=official", "decode=raw")["all"]["AP"] < 0.9


@pytest.mark.parametrize("override", ["aggregate.flip=true", "aggregate.test_scales=[0.5,1.0]"])
def test_other_views_are_refused(figures: Callable[..., Figures], tmp_path: Path, override: str) -> None:
    with pytest.raises(ValueError, match="test scale 1 only"):
        figures(annotation_file(tmp_path, [[(20, 30, 300)]]), override)


def test_separation_is_that_of_the_same_labelled_keypoint(experiment: ModuleType) -> None:
    keypoints = np.array([[[0, 0], [50, 0]], [[7, 9], [0, 1]], [[1, 1], [90, 90]]], dtype=np.float64)
    visibility = np.array([[2, 1], [2, 2], [0, 2]])
    people = Annotations(keypoints, visibility, np.ones(3))
    assert experiment.separation(people) == 9.0
    nobody = Annotations(np.zeros((0, 2, 2)), np.zeros((0, 2), dtype=np.int64), np.zeros(0))
    assert experiment.separation(nobody) == np.inf


def test_a_perfect_network_says_what_it_would_be_taught(experiment: ModuleType) -> None:
    keypoints = np.array([[[10.0, 20.0]], [[50.0, 41.0]], [[0.0, 0.0]]])
    people = Annotations(keypoints, np.array([[2], [1], [0]]), np.ones(3))
    encode = TargetEncoder(strides=(4, 2), centre="unbiased")
    coarse, fine = experiment.PerfectNetwork(people, encode)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert (coarse.stride, fine.stride, fine.tags) == (4, 2, None)
    assert coarse.heatmaps.shape == (1, 1, 16, 16)
    assert fine.heatmaps.shape == (1, 1, 32, 32)
    for index, tag in enumerate((0.0, 2.0)):
        x, y = map_from_input(4).apply(keypoints[index, 0]).astype(int)
        assert coarse.tags[0, 0, y, x] == tag
    assert set(coarse.tags.unique().tolist()) == {0.0, 2.0}  # the unlabelled third is nobody's
