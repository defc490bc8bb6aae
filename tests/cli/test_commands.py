"""Every command, from a trained network to a scored results file."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from pycocotools import coco as coco_tools

from swahr.checkpoint import load_checkpoint
from swahr.cli.command import compose_config
from swahr.cli.evaluate import evaluate
from swahr.cli.predict import predict
from swahr.data import CocoSource
from swahr.images import read_image


@pytest.fixture(scope="module")
def crowds(swahr, tmp_path_factory):
    """A data set written by `swahr render`."""
    folder = tmp_path_factory.mktemp("render") / "crowds"
    result = swahr(
        "render", "data.module.train.image_size=[64,80]", "split=val", "count=3", f"output={folder}"
    ).result
    assert result == {
        "output": str(folder), "annotations": str(folder / "annotations/person_keypoints.json"), "images": 3,
    }  # fmt: skip
    return folder


def on_crowds(folder: Path) -> list[str]:
    """Overrides that read a rendered data set."""
    return [
        "data=custom", f"data.root={folder}", "data.module.workers=0",
        f"data.module.val.annotations={folder}/annotations/person_keypoints.json",
    ]  # fmt: skip


def test_train_reports_its_folder_and_leaves_everything_in_it(trained):
    folder = Path(trained.result["output"])
    names = {path.name for path in folder.iterdir()}
    assert {"best.safetensors", "last.ckpt", "metrics.csv", "config.yaml", "pictures", ".hydra"} <= names
    assert trained.result["best"] == str(folder / "best.safetensors")
    assert trained.result["best_AP"] == trained.result["last_validation"]["val/AP"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["module"]["val"]["image_size"] == [64, 64]


def test_evaluate_writes_coco_results_and_stamped_metrics(swahr, checkpoint, crowds, tmp_path):
    folder = tmp_path / "evaluated"
    metrics = swahr("evaluate", f"checkpoint={checkpoint}", *on_crowds(crowds), f"output={folder}").result
    written = json.loads((folder / "metrics.json").read_text())
    assert written["metrics"] == metrics
    assert written["images"] == 3
    assert set(written["stamp"]["sha256"]) == {"best.safetensors", "person_keypoints.json"}
    assert read_image(folder / "predictions.png").size > 0
    annotations = crowds / "annotations/person_keypoints.json"
    results = json.loads((folder / "results.json").read_text())
    assert results
    assert {entry["image_id"] for entry in results} <= {1, 2, 3}
    assert len(coco_tools.COCO(annotations).loadRes(str(folder / "results.json")).anns) == len(results)
    scored = swahr("score", "--annotations", annotations, "--results", folder / "results.json").result
    assert scored == metrics


def test_settings_come_from_the_checkpoint_and_overrides_apply(swahr, checkpoint, tmp_path):
    folder = tmp_path / "kept"
    assert swahr("evaluate", f"checkpoint={checkpoint}", f"output={folder}", "pictures=0").code == 0
    kept = yaml.safe_load((folder / ".hydra/config.yaml").read_text())
    trained = load_checkpoint(checkpoint).config
    for group in ("data", "aggregate", "grouping", "decode", "postprocess", "evaluation"):
        assert kept[group] == trained[group]
    assert kept["aggregate"]["input_size"] == 64
    folder = tmp_path / "changed"
    changes = ["aggregate=multi_scale", "aggregate.flip=false", "aggregate.input_size=64", "decode=quarter"]
    assert swahr("evaluate", f"checkpoint={checkpoint}", f"output={folder}", *changes).code == 0
    changed = yaml.safe_load((folder / ".hydra/config.yaml").read_text())
    assert changed["aggregate"]["test_scales"] == [0.5, 1.0, 2.0]
    assert changed["aggregate"]["flip"] is False
    assert changed["decode"]["refine"] == {"_target_": "swahr.decode.QuarterOffset"}
    assert changed["grouping"] == trained["grouping"]


def test_predict_writes_pictures_and_a_dataset_of_people(swahr, checkpoint, crowds, tmp_path):
    awkward = tmp_path / "a=b, it's [1].jpg"
    awkward.write_bytes((crowds / "images/000000000001.jpg").read_bytes())
    folder = tmp_path / "predicted"
    result = swahr(
        "predict", f"checkpoint={checkpoint}", crowds / "images", awkward, f"output={folder}"
    ).result
    assert result["images"] == 4
    assert result["people"] > 0
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert pictures == {"000000000001.jpg", "000000000002.jpg", "000000000003.jpg", awkward.name}
    tools = coco_tools.COCO(folder / "poses.json")
    assert len(tools.anns) == result["people"]
    source = CocoSource(folder / "poses.json", tmp_path, insist=True)  # an untrained network's
    assert source.skeleton.name == "coco"
    assert sum(len(source[i].annotations) for i in range(len(source))) == result["people"]
    content = json.loads((folder / "poses.json").read_text())
    assert content["info"]["sha256"].keys() == {"best.safetensors"}
    assert all(person["score"] >= 0 for person in content["annotations"])


def test_predict_skips_unreadable_files_and_keeps_the_other_results(swahr, checkpoint, crowds, tmp_path):
    picture = (crowds / "images/000000000001.jpg").read_bytes()
    for name, content in (
        ("a/a.jpg", picture),
        ("b/a.jpg", picture),
        ("b/a_2.jpg", picture),
        ("b/c.jpg", b"?"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    folder = tmp_path / "p"
    command = ["predict", f"checkpoint={checkpoint}", tmp_path / "a", tmp_path / "b"]
    outcome = swahr(*command, f"output={folder}")
    assert "1 of 4 files skipped" in outcome.error
    assert "c.jpg: expected" in outcome.error
    assert {path.name for path in (folder / "pictures").iterdir()} == {"a.jpg", "a_2.jpg", "a_2_2.jpg"}
    images = json.loads((folder / "poses.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [
        str(tmp_path / n) for n in ("a/a.jpg", "b/a.jpg", "b/a_2.jpg")
    ]


def test_an_interrupted_prediction_keeps_what_was_found(checkpoint, crowds, tmp_path, monkeypatch):
    config = compose_config(
        "predict", [f"checkpoint={checkpoint}", f"inputs={crowds / 'images'}", f"output={tmp_path / 'p'}"]
    )
    drawn = []

    def draw(image, poses):
        drawn.append(image)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return image

    monkeypatch.setattr("swahr.cli.predict.draw_poses", draw)
    with pytest.raises(KeyboardInterrupt):
        predict(config)
    assert not (tmp_path / "p/poses.json").exists()
    lines = (tmp_path / "p/poses.partial.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"]["id"] for line in lines] == [1, 2]


def test_predict_leaves_out_people_below_the_score(swahr, checkpoint, crowds, tmp_path):
    command = ["predict", f"checkpoint={checkpoint}", crowds / "images", "draw=false", "min_score=1e9"]
    assert swahr(*command, f"output={tmp_path}/p").result["people"] == 0
    assert not (tmp_path / "p/pictures").exists()
    assert json.loads((tmp_path / "p/poses.json").read_text())["annotations"] == []


def test_show_draws_targets_without_and_maps_with_a_network(swahr, checkpoint, crowds, tmp_path):
    smoke = ["data.module.train.image_size=[64,64]", "data.module.augmentation.input_size=64"]
    (targets,) = swahr("show", *smoke, "index=3", f"output={tmp_path}/targets").result["pictures"]
    (labelled,) = swahr("show", f"checkpoint={checkpoint}", f"output={tmp_path}/maps").result["pictures"]
    image = crowds / "images/000000000002.jpg"
    (photo,) = swahr("show", f"checkpoint={checkpoint}", image, f"output={tmp_path}/photo").result["pictures"]
    sizes = [cv2.imread(picture).shape for picture in (targets, labelled, photo)]
    assert min(np.ravel(sizes)) > 0
    assert sizes[1] != sizes[0]  # the network's maps come beside the targets


def test_run_folders_are_never_used_twice(swahr, trained):
    folder = Path(trained.result["output"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for command in ("train", "render"):
        error = swahr(command, f"output={folder}").error
        assert "run folders are never reused: choose another output=" in error
        assert str(folder) in error
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_data_root_of_a_checkpoint_can_move(swahr, coco_dataset, small, tmp_path):
    root = f"data.root={coco_dataset}"
    best = swahr("train", "data=custom", root, *small, f"output={tmp_path}/run").result["best"]
    moved = coco_dataset.rename(tmp_path / "moved")
    (moved / "train.json").unlink()  # evaluation needs the validation data only
    command = ["evaluate", f"checkpoint={best}", f"output={tmp_path}/evaluated"]
    assert "val.json: expected a COCO-format annotation file" in swahr(*command).error
    assert "AP" in swahr(*command, f"data.root={moved}").result


def test_evaluate_returns_ap_for_sweepers(checkpoint, tmp_path):
    config = compose_config("evaluate", [f"checkpoint={checkpoint}", f"output={tmp_path}/e", "pictures=0"])
    assert evaluate(config) == json.loads((tmp_path / "e/metrics.json").read_text())["metrics"]["AP"]


def test_flags_of_hydra_and_overrides_come_in_any_order(swahr, checkpoint, tmp_path):
    composed = swahr("train", "--cfg", "job", "experiment=smoke", "seed=7")
    assert composed.code == 0
    assert yaml.safe_load(composed.stdout)["seed"] == 7
    composed = swahr("predict", f"model={checkpoint}", "--cfg", "job", "a.jpg", "decode=quarter")
    assert yaml.safe_load(composed.stdout)["inputs"] == ["a.jpg"]
    assert yaml.safe_load(composed.stdout)["decode"]["refine"] == {"_target_": "swahr.decode.QuarterOffset"}
    assert not list(tmp_path.iterdir())
    sweep = ("evaluate", f"checkpoint={checkpoint}", "-m", "decode=quarter,dark", f"output={tmp_path}/sweep")
    assert swahr(*sweep).code == 0
    assert {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()} == {
        "0_decode-quarter", "1_decode-dark",
    }  # fmt: skip
