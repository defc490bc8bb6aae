"""`swahr check`, and the same check before training, evaluation and scoring."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from swahr.checkpoint import load_checkpoint
from swahr.images import read_image


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without_areas(content):
    for person in content["annotations"]:
        person["area"] = 0


def with_nobody_counted(content):
    for person in content["annotations"]:
        person["num_keypoints"] = 0


def with_turned_size(content):
    image = content["images"][0]
    image["width"] = 2 * image["width"]  # no square
    image["height"], image["width"] = image["width"], image["height"]
    for person in content["annotations"]:
        if person["image_id"] == image["id"]:
            person["keypoints"][0::3] = [x + image["width"] for x in person["keypoints"][0::3]]


@pytest.fixture
def data(coco_dataset):
    return ["data=custom", f"data.root={coco_dataset}"]


def test_sound_data(swahr, data, tmp_path):
    outcome = swahr("check", *data, f"output={tmp_path}/c", "pictures=2")
    for name in ("train", "val"):
        found = outcome.result[name]
        assert found["errors"] == found["warnings"] == []
        assert found["images"] == 2
        assert found["missing_images"] == {"count": 0, "examples": []}
        assert read_image(found["page"]).size > 0
        assert f"{name}.json: 2 images" in outcome.stderr
    assert outcome.stderr.count("nothing implausible") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_areas, "have an area too small for their keypoints"),
        (with_nobody_counted, "have num_keypoints 0 although keypoints are labelled"),
        (with_turned_size, "in images whose height and width seem to be exchanged"),
    ],
)
def test_faulty_data_end_in_exit_code_1_and_a_page(swahr, data, coco_dataset, tmp_path, change, message):
    edit(coco_dataset / "val.json", change)
    outcome = swahr("check", *data, f"output={tmp_path}/c")
    assert outcome.code == 1
    found = json.loads(outcome.stdout)
    assert found["train"]["errors"] == []
    assert message in found["val"]["errors"][0]
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert read_image(found["val"]["page"]).size > 0


def test_missing_and_unreadable_images_are_errors(swahr, data, coco_dataset, tmp_path):
    (coco_dataset / "images/000000000001.jpg").unlink()
    cv2.imwrite(str(coco_dataset / "images/000000000002.jpg"), np.zeros((9, 9, 3), dtype=np.uint8))
    outcome = swahr("check", *data, f"output={tmp_path}/c")
    found = json.loads(outcome.stdout)["val"]
    assert outcome.code == 1
    assert found["missing_images"]["count"] == 1
    assert "1 of 2 image files are missing" in found["errors"][0]
    assert "000000000001.jpg" in found["errors"][0]
    assert "000000000002.jpg: expected the size" in found["errors"][1]
    assert "page" not in found


def test_one_set_that_cannot_be_read_does_not_hide_the_other(swahr, data, coco_dataset, tmp_path):
    (coco_dataset / "train.json").write_text("{")
    edit(coco_dataset / "val.json", without_areas)
    found = json.loads(swahr("check", *data, f"output={tmp_path}/c").stdout)
    assert "train.json: expected JSON" in found["train"]["errors"][0]
    assert "area too small" in found["val"]["errors"][0]


def test_a_single_file_with_and_without_its_images(swahr, coco_dataset, tmp_path):
    file = [f"annotations={coco_dataset}/val.json"]
    found = swahr("check", *file, f"output={tmp_path}/a").result["annotations"]
    assert found["images"] == 2
    assert found.keys().isdisjoint({"page", "missing_images"})
    found = swahr("check", *file, f"images={coco_dataset}/images", f"output={tmp_path}/b").result
    assert Path(found["annotations"]["page"]).name == "annotations.png"


def test_nothing_to_check(swahr, tmp_path):
    assert "give data.root=PATH, or annotations=FILE" in swahr("check", f"output={tmp_path}/c").error
    error = swahr("check", "data=synthetic_moderate", f"output={tmp_path}/c").error
    assert "expected data with annotation files, got rendered ones" in error


@pytest.mark.parametrize("file", ["train.json", "val.json"])
def test_training_refuses_implausible_data_unless_one_insists(
    swahr, data, small, coco_dataset, tmp_path, file
):
    edit(coco_dataset / file, without_areas)
    error = swahr("train", *data, *small, f"output={tmp_path}/t").error
    assert error.startswith(f"{coco_dataset / file}: expected plausible annotations")
    assert "area too small" in error
    assert not (tmp_path / "t/last.ckpt").exists()
    outcome = swahr("train", *data, *small, "data.insist=true", f"output={tmp_path}/i")
    stamp = load_checkpoint(outcome.result["best"]).stamp
    assert "area too small" in stamp["data"][Path(file).stem]["errors"][0]
    assert "area too small" in outcome.stderr
    assert "val.json: 2 images" in outcome.stderr


def test_an_evaluation_is_refused_before_it_starts(swahr, checkpoint, data, coco_dataset, tmp_path):
    command = ["evaluate", f"checkpoint={checkpoint}", *data, "data.module.workers=0"]
    assert swahr(*command, f"output={tmp_path}/good").code == 0
    stamp = json.loads((tmp_path / "good/metrics.json").read_text())["stamp"]
    assert stamp["data"]["val"]["images"] == 2
    edit(coco_dataset / "val.json", lambda content: content["images"][0].pop("crowdIndex"))
    error = swahr(*command, "evaluation=crowdpose", f"output={tmp_path}/e").error
    assert "needs the crowdIndex of every image" in error
    edit(coco_dataset / "val.json", with_nobody_counted)
    assert "have num_keypoints 0" in swahr(*command, f"output={tmp_path}/e").error
    error = swahr(*command, "data.insist=true", f"output={tmp_path}/e").error
    assert "no person that counts" in error
    assert "AP would be -1" in error
    assert not (tmp_path / "e/results.json").exists()


def test_results_of_an_evaluation_carry_the_annotations_category(
    swahr, checkpoint, data, coco_dataset, tmp_path
):
    def with_category_3(content):
        for entry in (*content["annotations"], *content["categories"]):
            entry["id" if "keypoints" in entry and "name" in entry else "category_id"] = 3

    edit(coco_dataset / "val.json", with_category_3)
    command = ["evaluate", f"checkpoint={checkpoint}", *data, "data.module.workers=0"]
    metrics = swahr(*command, f"output={tmp_path}/e").result
    results = tmp_path / "e/results.json"
    assert {one["category_id"] for one in json.loads(results.read_text())} == {3}
    scored = swahr("score", "--annotations", coco_dataset / "val.json", "--results", results).result
    assert scored == metrics


def test_scores(swahr, coco_dataset, tmp_path):
    annotations, results = coco_dataset / "val.json", tmp_path / "results.json"
    people = json.loads(annotations.read_text())["annotations"]
    results.write_text(json.dumps([one | {"score": 0.9} for one in people]))
    command = ["score", "--annotations", annotations, "--results", results]
    outcome = swahr(*command)
    assert outcome.result["AP"] == pytest.approx(1.0)
    assert "val.json: 2 images" in outcome.stderr
    edit(annotations, without_areas)
    assert "area too small" in swahr(*command).error
    assert "area too small" in swahr(*command, "--insist").stderr
    assert swahr(*command, "--insist").result["AP"] == pytest.approx(1.0)  # nothing is nearer than exact
    edit(annotations, with_nobody_counted)
    assert "AP would be -1" in swahr(*command, "--insist").error
