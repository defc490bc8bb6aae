"""A custom skeleton, defined by its annotation file or by a YAML file."""

import json

import pytest
import yaml

from swahr.checkpoint import load_checkpoint
from swahr.skeleton import Skeleton


@pytest.fixture
def skeleton_yaml(nine_keypoint_dataset, tmp_path):
    category = json.loads((nine_keypoint_dataset / "val.json").read_text())["categories"][0]
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "keypoints": category["keypoints"],
                "limbs": [["left_hip", "left_ankle"]],
                "flip_pairs": [["left_wrist", "right_wrist"]],
                "sigmas": [0.05] * 9,
            }
        )
    )
    return path


def test_a_skeleton_from_its_annotation_file_goes_through_every_command(
    swahr, small, nine_keypoint_dataset, tmp_path
):
    data = ["data=custom", f"data.root={nine_keypoint_dataset}"]
    best = swahr("train", *data, *small, "grouping.peaks.threshold=-1", f"output={tmp_path}/t").result["best"]
    skeleton = load_checkpoint(best).skeleton
    assert skeleton.num_keypoints == 9
    assert ("left_wrist", "right_wrist") in skeleton.flip_pairs
    model = f"checkpoint={best}"
    assert "AP" in swahr("evaluate", model, f"output={tmp_path}/e").result
    results = json.loads((tmp_path / "e/results.json").read_text())
    assert {len(person["keypoints"]) for person in results} == {27}
    image = nine_keypoint_dataset / "images/000000000001.jpg"
    assert swahr("predict", model, image, f"output={tmp_path}/p").result["people"] > 0
    assert len(swahr("show", model, f"output={tmp_path}/s").result["pictures"]) == 1
    annotations = nine_keypoint_dataset / "val.json"
    scored = swahr("score", "--annotations", annotations, "--results", tmp_path / "e/results.json").result
    assert scored == json.loads((tmp_path / "e/metrics.json").read_text())["metrics"]


def test_a_skeleton_from_yaml_replaces_that_of_the_annotation_file(
    swahr, small, nine_keypoint_dataset, skeleton_yaml, tmp_path
):
    data = ["data=custom", f"data.root={nine_keypoint_dataset}", f"data.skeleton={skeleton_yaml}"]
    best = swahr("train", *data, *small, f"output={tmp_path}/t").result["best"]
    skeleton = load_checkpoint(best).skeleton
    assert skeleton == Skeleton.from_yaml(skeleton_yaml)
    assert skeleton.flip_pairs == (("left_wrist", "right_wrist"),)
    assert len(swahr("show", *data, f"output={tmp_path}/s").result["pictures"]) == 1
