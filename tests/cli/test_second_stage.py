"""Both stages from the command line and from Python, on three skeletons; and what is not a second stage."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from swahr import Predictor, load_checkpoint
from swahr.images import read_image
from swahr.second_stage import ProposalBoxes
from swahr.second_stage.proposals import Mixture
from swahr.skeleton import COCO, CROWDPOSE
from swahr.synthetic import SyntheticSource, render_dataset

FIRST = "grouping.peaks.threshold=-1"
SMALL_CROWDS = ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")


@pytest.fixture(scope="module")
def second(person):
    return f"second_stage.checkpoint={person['best']}"


@pytest.mark.parametrize("name", ["coco", "crowdpose", "nine"])
def test_both_stages_train_evaluate_and_predict(
    name, swahr, small, person_settings, coco_dataset, nine_keypoint_dataset, tmp_path
):
    root = {"coco": coco_dataset, "nine": nine_keypoint_dataset}.get(name, tmp_path / "data")
    if name == "crowdpose":
        source = SyntheticSource(size=2, seed=3, image_size=(64, 64), people=(1, 2), skeleton=CROWDPOSE)
        content = render_dataset(source, root).read_text()
        for part in ("train", "val"):
            (root / f"{part}.json").write_text(content)
    data = ("data=custom", f"data.root={root}")
    first = swahr("train", *data, *small, FIRST, f"output={tmp_path}/first").result["best"]
    trained = swahr("train", *data, *person_settings, f"output={tmp_path}/person").result
    assert set(trained["last_validation"]) >= {"val/AP", "val/AR"}
    own = load_checkpoint(trained["best"])
    assert own.skeleton.num_keypoints == {"coco": 17, "crowdpose": 14, "nine": 9}[name]
    assert list(own.config["model"]["heads"]) == ["heatmaps"]
    both = (f"checkpoint={first}", "second_stage=crops", f"second_stage.checkpoint={trained['best']}")
    assert "AP" in swahr("evaluate", *both, f"output={tmp_path}/e").result
    results = json.loads((tmp_path / "e/results.json").read_text())
    assert {len(one["keypoints"]) for one in results} == {3 * own.skeleton.num_keypoints}
    predicted = swahr("predict", *both, root / "images", f"output={tmp_path}/p").result
    assert predicted["people"] == len(results) > 0


def test_the_checkpoint_of_a_person_network_holds_its_settings(person):
    config = load_checkpoint(person["best"]).config
    assert config["second_stage"] == {
        "_target_": "swahr.second_stage.SecondStage", "crop_size": [64, 32], "enlarge": 1.3,
        "box_threshold": 0.1, "flip": True, "threshold": 0.0, "join_scores": True, "batch_size": 64,
        "condition": None, "deformation": None, "deformation_weight": 1.0,
    }  # fmt: skip


def test_settings_of_the_second_stage_apply_and_results_name_its_file(
    swahr, checkpoint, person, second, tmp_path
):
    both = (f"checkpoint={checkpoint}", "second_stage=crops", second)
    # The scores of a network this young are near 0, so that a threshold of 1 leaves nobody.
    for changes, people in (((), True), (("second_stage.threshold=1.0",), False)):
        folder = tmp_path / f"run{len(changes)}"
        swahr("evaluate", *both, *changes, "pictures=0", f"output={folder}").result  # noqa: B018 - it succeeds
        assert bool(json.loads((folder / "results.json").read_text())) is people
        stamp = json.loads((folder / "metrics.json").read_text())["stamp"]
        assert hashlib.sha256(Path(person["best"]).read_bytes()).hexdigest() in stamp["sha256"].values()
        assert len([name for name in stamp["sha256"] if "safetensors" in name]) == 2
    unknown = swahr("evaluate", *both, "+second_stage.enlarged=2", f"output={tmp_path}/u").error
    assert "swahr.second_stage.SecondStage has no enlarged" in unknown


def test_the_python_interface_is_the_same_as_the_command(swahr, checkpoint, person, second, photos, tmp_path):
    both = (f"checkpoint={checkpoint}", "second_stage=crops", second, "second_stage.flip=false")
    swahr("predict", *both, photos, "draw=false", f"output={tmp_path}/p").result  # noqa: B018 - it succeeds
    entries = json.loads((tmp_path / "p/poses.json").read_text())["annotations"]
    predictor = Predictor.from_checkpoint(
        checkpoint, second_stage=person["best"], overrides=["second_stage.flip=false"]
    )
    found = predictor.predict(sorted(photos.iterdir()))
    scores = [round(float(score), 4) for poses in found for score in poses.score]
    assert scores == [entry["score"] for entry in entries]
    assert len(scores) > 0


def test_without_a_second_stage_everything_is_as_before(swahr, checkpoint, person, photos, tmp_path):
    """The pipeline has no further step, the checkpoint no further group, and poses are equal bit for bit."""
    assert "second_stage" not in load_checkpoint(checkpoint).config
    alone = Predictor.from_checkpoint(checkpoint)
    assert alone.pipeline.steps == []
    both = Predictor.from_checkpoint(checkpoint, second_stage=person["best"])
    assert len(both.pipeline.steps) == 1
    image = read_image(min(photos.iterdir()))
    decoded = alone.pipeline.decode(
        alone.pipeline.aggregate.merge(alone.network, alone.pipeline.aggregate.prepare([image]))
    )[0]
    expected, found = alone(image), both(image)
    np.testing.assert_array_equal(expected.keypoints, decoded.keypoints)
    np.testing.assert_array_equal(expected.score, decoded.score)
    assert not np.array_equal(found.keypoints, expected.keypoints)
    folder = tmp_path / "none"
    swahr("evaluate", f"checkpoint={checkpoint}", "second_stage=none", "pictures=0", f"output={folder}")
    assert yaml.safe_load((folder / ".hydra/config.yaml").read_text())["second_stage"] == {}


def test_the_second_stage_comes_before_other_steps(checkpoint, person):
    steps = Predictor.from_checkpoint(
        checkpoint, second_stage=person["best"], overrides=["postprocess.x._target_=swahr.decode.PixelCentre"]
    ).pipeline.steps
    assert [type(step).__name__ for step in steps] == ["function", "PixelCentre"]


def test_the_second_stage_runs_in_the_same_precision(checkpoint, person):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    full, half = (
        Predictor.from_checkpoint(checkpoint, second_stage=person["best"], precision=precision)
        for precision in ("fp32", "bf16")
    )
    poses = full(image)
    (again,) = half.pipeline.steps[0]([image], [poses])
    (expected,) = full.pipeline.steps[0]([image], [poses])
    assert not np.array_equal(again.scores, expected.scores)
    np.testing.assert_allclose(again.scores, expected.scores, atol=0.02)


def test_a_checkpoint_is_needed_and_must_exist(swahr, checkpoint, tmp_path):
    one = (f"checkpoint={checkpoint}", "second_stage=crops", f"output={tmp_path}/e")
    assert "values are needed for second_stage.checkpoint" in swahr("evaluate", *one).error
    missing = swahr("evaluate", *one, f"second_stage.checkpoint={tmp_path}/no.safetensors").error
    assert f"{tmp_path}/no.safetensors: no such checkpoint" in missing


def test_a_bottom_up_network_is_no_second_stage(checkpoint):
    with pytest.raises(
        ValueError, match=r"expected a single-person network as the second stage, got a bottom-up"
    ):
        Predictor.from_checkpoint(checkpoint, second_stage=checkpoint)


def test_a_person_network_is_no_first_stage(swahr, checkpoint, person, photos, tmp_path):
    message = "expected a bottom-up network, got a single-person network"
    with pytest.raises(ValueError, match=message):
        Predictor.from_checkpoint(person["best"])
    for command in ("predict", "show"):
        outcome = swahr(command, f"checkpoint={person['best']}", photos, f"output={tmp_path}/{command}")
        assert message in outcome.error


def test_a_person_network_is_evaluated_on_annotated_people_as_in_its_training(swahr, person, tmp_path):
    command = ("evaluate", f"checkpoint={person['best']}", "pictures=0")
    metrics = swahr(*command, f"output={tmp_path}/e").result
    expected = {name.removeprefix("val/"): value for name, value in person["last_validation"].items()}
    assert metrics == pytest.approx(expected, abs=1e-9)
    results = json.loads((tmp_path / "e/results.json").read_text())
    assert len(results) > 0
    assert "crop_size" in swahr(*command, "second_stage.crop_size=[60,32]", f"output={tmp_path}/f").error
    error = swahr(*command, "backend=onnxruntime", f"output={tmp_path}/g").error
    assert f"{person['best']}: expected an exported .onnx file for backend=onnxruntime" in error
    assert swahr(*command, "decode=raw", f"output={tmp_path}/h").code == 0
    pixels = json.loads((tmp_path / "h/results.json").read_text())  # by the command's own settings
    assert [one["score"] for one in pixels] == [one["score"] for one in results]
    assert [one["keypoints"] for one in pixels] != [one["keypoints"] for one in results]


@pytest.mark.parametrize(
    ("setting", "group"),
    [
        ("aggregate.flip=false", "aggregate"),
        ("grouping.peaks.threshold=5", "grouping"),
        ("postprocess=pose_nms", "postprocess"),
        ("second_stage=none", "second_stage"),
    ],
)
def test_a_setting_without_effect_on_annotated_people_is_an_error(swahr, person, tmp_path, setting, group):
    command = ("evaluate", f"checkpoint={person['best']}", setting, f"output={tmp_path}/e")
    assert f"where other settings of {group} have no effect; remove them" in swahr(*command).error


def test_stages_of_different_keypoints_do_not_match(swahr, small, nine_keypoint_dataset, person, tmp_path):
    data = ("data=custom", f"data.root={nine_keypoint_dataset}")
    first = swahr("train", *data, *small, f"output={tmp_path}/t").result["best"]
    with pytest.raises(
        ValueError, match=r"trained for the 17 keypoints of 'coco'.*but the first stage has the 9"
    ):
        Predictor.from_checkpoint(first, second_stage=person["best"])


def test_training_validates_the_first_stage_alone(swahr, second, tmp_path):
    command = ("train", "experiment=smoke", "second_stage=crops", second, f"output={tmp_path}/t")
    assert "this command runs the first stage alone" in swahr(*command).error


def test_a_person_network_needs_its_training(swahr, tmp_path):
    """Settings that belong together: a bottom-up training does not describe its network as a second stage."""
    command = ("train", "experiment=smoke", "second_stage=person", f"output={tmp_path}/t")
    assert "enlarge" in swahr(*command).error
    command = ("train", "experiment=smoke", "training=person", f"output={tmp_path}/t2")
    assert "second_stage=person" in swahr(*command).error


def test_training_of_a_person_network_resumes(swahr, person, person_settings, tmp_path):
    last = person["best"].replace("best.safetensors", "last.ckpt")
    changes = ("trainer.max_epochs=2", f"ckpt={last}", f"output={tmp_path}/more")
    assert "val/AP" in swahr("train", *person_settings, *SMALL_CROWDS, *changes).result["last_validation"]


def test_training_on_proposals_stamps_their_file_and_prediction_does_not_need_it(
    swahr, checkpoint, person_settings, photos, tmp_path
):
    path = tmp_path / "proposals.json"
    boxes = f"data.module.augmentation.boxes={{_target_: swahr.second_stage.FittedProposals, path: {path}}}"
    command = ("train", *person_settings, *SMALL_CROWDS, boxes)
    assert f"{path}" in swahr(*command, f"output={tmp_path}/none").error
    mixture = Mixture(10, np.ones(1), np.full((1, 4), 0.1), 1e-4 * np.eye(4)[None])
    for skeleton in (CROWDPOSE, COCO):
        k = skeleton.num_keypoints
        fitted = ProposalBoxes(skeleton.keypoints, 0.4, np.zeros((k, 2)), np.zeros((1, k, 2)), (mixture,))
        path.write_text(json.dumps(fitted.to_dict()))
        outcome = swahr(*command, f"output={tmp_path}/{skeleton.name}")
        if skeleton is CROWDPOSE:
            assert "boxes: expected boxes for the keypoints of skeleton 'coco'" in outcome.error
    best = load_checkpoint(outcome.result["best"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() in best.stamp["sha256"].values()
    path.unlink()
    assert "AP" in swahr("evaluate", f"checkpoint={best.path}", "pictures=0", f"output={tmp_path}/e").result
    both = (f"checkpoint={checkpoint}", "second_stage=crops", f"second_stage.checkpoint={best.path}")
    assert swahr("predict", *both, photos, "draw=false", f"output={tmp_path}/p").code == 0
