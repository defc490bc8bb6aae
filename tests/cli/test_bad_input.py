"""Every mistake of a user ends in exit code 1 and one message that names the file or key and what to do."""

import json
from pathlib import Path

import pytest


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


def test_a_missing_image_stops_an_evaluation(swahr, checkpoint, coco_dataset, tmp_path):
    image = coco_dataset / "images/000000000001.jpg"
    image.unlink()
    data = ["data=custom", f"data.root={coco_dataset}", "data.module.workers=1"]
    error = swahr("evaluate", f"checkpoint={checkpoint}", *data, f"output={tmp_path}/e").error
    assert error.startswith(f"{image}: expected an image file")


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
        f"{checkpoint}: the checkpoint was trained for the 17 keypoints"
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
            "no model=tinny (did you mean model=tiny?); the options are hrnet_w32, tiny, w32, w48",
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
