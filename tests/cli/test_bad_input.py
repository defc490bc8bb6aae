"""Every mistake of a user ends in exit code 1 and one message that names the file or key and what to do."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from swahr.skeleton import COCO


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def with_everybody_unlabelled(content):
    for person in content["annotations"]:
        person["keypoints"] = [0] * len(person["keypoints"])


def with_short_keypoints(content):
    content["annotations"][0]["keypoints"] = content["annotations"][0]["keypoints"][:-1]


def with_unknown_image(content):
    content["annotations"][0]["image_id"] = 77


def test_an_experiment_with_data_that_it_is_not_made_for(swahr, coco_dataset, tmp_path):
    command = ["train", "experiment=smoke", "data=custom", f"data.root={coco_dataset}"]
    error = swahr(*command, f"output={tmp_path}/t").error
    assert "CocoSource has no size, image_size; expected some of annotations, images" in error


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_short_keypoints, ["annotation 1", "expected 51", "50"]),
        (with_unknown_image, ["annotation 1", "77", "add the image or drop the annotation"]),
        (with_everybody_unlabelled, ["expected annotated people", "check that this is a keypoint file"]),
        (lambda content: content.pop("images"), ["['images'] are missing", "add them"]),
    ],
)
def test_wrong_annotations(swahr, coco_dataset, tmp_path, change, expected):
    edit(coco_dataset / "train.json", change)
    error = swahr("train", "data=custom", f"data.root={coco_dataset}", f"output={tmp_path}/t").error
    assert all(text in error for text in [str(coco_dataset / "train.json"), *expected]), error
    assert len(error.splitlines()) == 1


def test_annotations_that_are_not_json(swahr, coco_dataset, tmp_path):
    file = coco_dataset / "train.json"
    file.write_bytes(file.read_bytes()[:-30])
    error = swahr("train", "data=custom", f"data.root={coco_dataset}", f"output={tmp_path}/t").error
    assert str(file) in error
    assert "fetch it again" in error


def test_wrong_skeleton_for_the_data(swahr, coco_dataset, tmp_path):
    data = ["data=custom", f"data.root={coco_dataset}", "data.skeleton=crowdpose"]
    error = swahr("train", *data, f"output={tmp_path}/t").error
    assert "train.json" in error
    assert "wrong skeleton for the data" in error
    error = swahr("train", *data[:2], "data.skeleton=mine.yaml", f"output={tmp_path}/t").error
    assert "data.skeleton=mine.yaml: expected coco, crowdpose or a skeleton YAML file" in error


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (Path.unlink, "expected an image file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "fetch it again"),
    ],
)
def test_images_that_cannot_be_read(swahr, coco_dataset, small, tmp_path, damage, expected, workers):
    image = coco_dataset / "images/000000000002.jpg"
    damage(image)
    workers = f"data.module.workers={workers}"
    outcome = swahr(
        "train", "data=custom", f"data.root={coco_dataset}", *small, workers, f"output={tmp_path}/t"
    )
    assert str(image) in outcome.error
    assert expected in outcome.error
    assert len(outcome.error.splitlines()) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_metrics_are_not_computed_without_some_images(swahr, checkpoint, coco_dataset, tmp_path, workers):
    image = coco_dataset / "images/000000000001.jpg"
    image.unlink()
    data = ["data=custom", f"data.root={coco_dataset}", f"data.module.workers={workers}"]
    folder = tmp_path / "e"
    error = swahr("evaluate", f"checkpoint={checkpoint}", *data, f"output={folder}").error
    summary, named = error.splitlines()
    assert summary.startswith("no metrics, because 1 of 2 images have problems")
    assert named.startswith(f"{image}: expected an image file")
    assert {entry["image_id"] for entry in json.loads((folder / "results.json").read_text())} == {2}
    assert not (folder / "metrics.json").exists()
    assert not (folder / "results.partial.jsonl").exists()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("aggregate.flip=maybe", "Aggregator: flip='maybe': expected true or false"),
        ("aggregate.test_scales=1.0", "Aggregator: test_scales=1.0: expected a list [a number, …]"),
        ("aggregate.test_scales=[1.0,big]", "expected a list [a number, …]"),
        ("aggregate.input_size=abc", "Aggregator: input_size='abc': expected an integer"),
        ("aggregate.input_size=true", "input_size=True: expected an integer"),
        ("grouping.peaks.threshold=abc", "PeakExtractor: threshold='abc': expected a number"),
        ("batch_size=abc", "batch_size='abc': expected an integer"),
        ("batch_size=0", "batch_size=0: expected at least 1"),
        ("compile=perhaps", "compile='perhaps': expected true or false"),
        ("channels_last=1", "channels_last=1: expected true or false"),
        ("min_score=low", "min_score='low': expected a number"),
        ("draw=maybe", "draw='maybe': expected true or false"),
        ("device=gpu", "device=gpu: expected cpu"),
        ("device=0", "device=0: expected cpu"),
    ],
)
def test_values_of_a_wrong_type(swahr, checkpoint, coco_dataset, tmp_path, untyped, setting, expected):
    if setting == "device=0" and torch.cuda.is_available():
        pytest.skip("needs a machine without GPU")
    command = ["predict", f"checkpoint={checkpoint}", coco_dataset / "images", f"output={tmp_path}/p"]
    error = swahr(*command, setting).error
    assert expected in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("index", "expected"),
    [("99", "expected 0 to 1"), ("-1", "expected 0 to 1"), ("x", "expected an integer")],
)
def test_an_index_that_is_not_there(swahr, coco_dataset, tmp_path, index, expected):
    command = ["show", "data=custom", f"data.root={coco_dataset}", f"index={index}", f"output={tmp_path}/s"]
    assert expected in swahr(*command).error


def test_outputs_that_cannot_be_created(swahr, checkpoint, coco_dataset, tmp_path):
    (tmp_path / "file").touch()
    command = ["predict", f"checkpoint={checkpoint}", coco_dataset / "images", f"output={tmp_path}/file/p"]
    assert f"cannot write to {tmp_path}/file; choose another output=" in swahr(*command).error


def test_a_skeleton_file_that_stayed_behind(swahr, small, coco_dataset, tmp_path, monkeypatch):
    with_skeleton = COCO.to_dict() | {"name": "own"}
    Path("own.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(with_skeleton))))
    data = ["data=custom", f"data.root={coco_dataset}"]
    run = swahr("train", *data, "data.skeleton=own.yaml", *small, f"output={tmp_path}/t")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    metrics = swahr("evaluate", f"checkpoint={run.result['best']}", f"output={tmp_path}/e").result
    assert metrics["AP"] == pytest.approx(run.result["best_AP"], abs=1e-12)
    assert swahr("show", f"checkpoint={run.result['best']}", f"output={tmp_path}/s").code == 0
    other = swahr("evaluate", f"checkpoint={run.result['best']}", "data.skeleton=other.yaml")
    assert "data.skeleton=other.yaml: expected" in other.error


def test_an_image_to_predict_that_is_missing_or_damaged(swahr, checkpoint, tmp_path):
    model = f"checkpoint={checkpoint}"
    error = swahr("predict", model, tmp_path / "nobody.jpg", f"output={tmp_path}/p").error
    assert "nobody.jpg: expected an image, a folder with images" in error
    (tmp_path / "text.jpg").write_text("no image")
    error = swahr("predict", model, tmp_path / "text.jpg", f"output={tmp_path}/p").error
    assert "text.jpg: expected an image that OpenCV decodes" in error


def test_checkpoints_that_do_not_fit(swahr, checkpoint, nine_keypoint_dataset, tmp_path):
    smoke = ["train", "experiment=smoke", f"output={tmp_path}/t", f"weights={checkpoint}"]
    error = swahr(*smoke, "model.backbone.channels=[8,16,32,64]").error
    assert f"{checkpoint}: the checkpoint is of another architecture" in error
    assert (
        f"{checkpoint}: the weights are for the 17 keypoints"
        in swahr(*smoke, "data.skeleton=crowdpose").error
    )
    data = ["data=custom", f"data.root={nine_keypoint_dataset}"]
    error = swahr("evaluate", f"checkpoint={checkpoint}", *data, f"output={tmp_path}/e").error
    assert "17 keypoints of 'coco'" in error
    assert "train on these" in error
    assert "no such checkpoint" in swahr("evaluate", "checkpoint=nothing.safetensors").error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("trainer.max_epoch=3", "no key 'trainer.max_epoch' (did you mean trainer.max_epochs?)"),
        ("lr=1e-3", "no key 'lr' (did you mean training.optimiser.lr?)"),
        ("model.backbone.chanels=[1,2]", "'model.backbone.chanels' (did you mean model.backbone.channels"),
        ("experiment=smoke trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("-m seed=0,1 trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("lr=1 trainer.max_epoch=3", "did you mean training.optimiser.lr?"),
        (
            "model=tinny",
            "no model=tinny (did you mean model=tiny?); the options are conditioned_tiny, hrnet_w32, lite",
        ),
        ("experiment=smok", "did you mean experiment=smoke?"),
        ("-m loss=mse,sawhr", "no loss=sawhr (did you mean loss=sahr or loss=swahr"),
        ("data=coco", "values are needed for data.root: add data.root=…"),
        ("loss=mse,sahr", "add --multirun"),
        ("model.backbone.channels=[1", "cannot read 'model.backbone.channels=[1'"),
        ("best.safetensors", "cannot read 'best.safetensors'"),
        ("+model.depth=3", "HigherHRNet has no depth"),
        ("experiment=smoke model.backbone.channels=[8,16]", "channels"),
        ("experiment=smoke trainer.accelerator=gpu", "gpu"),
    ],
)
def test_overrides_that_fit_nothing(swahr, arguments, expected):
    error = swahr("train", *arguments.split()).error
    assert expected in error


def test_errors_of_commands_name_what_is_missing(swahr, checkpoint, coco_dataset):
    data = ["data=custom", f"data.root={coco_dataset}"]
    assert "add checkpoint=…" in swahr("evaluate").error
    assert "add inputs=…" in swahr("predict", f"checkpoint={checkpoint}").error
    assert "with a model: add checkpoint=<file>" in swahr("show", "photo.jpg").error
    assert "expected rendered data, got CocoSource" in swahr("render", *data).error
    assert "`checkpoint` cannot be swept" in swahr("evaluate", "-m", "checkpoint=a,b").error
    assert (
        "no key 'trainer.max_epochs'"
        in swahr("evaluate", f"checkpoint={checkpoint}", "trainer.max_epochs=3").error
    )
    assert "precision" in swahr("evaluate", f"checkpoint={checkpoint}", "precision=bf61").error


def test_an_unknown_command_shows_the_commands(swahr):
    outcome = swahr("tran")
    assert outcome.code == 2
    assert "no command 'tran'" in outcome.stderr
    assert "evaluate" in outcome.stderr
    assert swahr("--version").stdout.count(".") == 2
    for command in ("train", "evaluate"):
        help_text = swahr(command, "--help")
        assert help_text.code == 0
        assert f"swahr {command}:" in help_text.stdout


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ('[{"image_id": 9, "category_id": 1, "keypoints": [], "score": 1}]', "image_id 9"),
        ('[{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 3], "score": 1}]', "expected 51 numbers"),
        ('[{"image_id": 1, "category_id": 1, "score": 1}]', "results.json: result 0: expected the keys"),
        ('{"annotations": []}', "results.json: expected a JSON list of results, got dict"),
        ("[1, 2", "results.json: expected JSON, but it does not parse"),
    ],
)
def test_results_that_cannot_be_scored(swahr, coco_dataset, tmp_path, results, expected):
    file = tmp_path / "results.json"
    file.write_text(results)
    error = swahr("score", "--annotations", coco_dataset / "val.json", "--results", file).error
    assert expected in error
    assert len(error.splitlines()) == 1


def test_files_to_score_that_are_not_there(swahr, coco_dataset):
    nothing = ["--results", "nothing.json"]
    assert "nothing.json" in swahr("score", "--annotations", coco_dataset / "val.json", *nothing).error
    assert (
        "annotations.json: expected a COCO-format annotation file"
        in swahr("score", "--annotations", "annotations.json", *nothing).error
    )
