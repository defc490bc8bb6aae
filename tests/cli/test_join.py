"""Both stages in one checkpoint, and person networks exported to ONNX."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from swahr import Predictor, load_checkpoint
from swahr.images import read_image
from swahr.inference import open_exported


@pytest.fixture(scope="module")
def joined(swahr, checkpoint, person, tmp_path_factory):
    path = tmp_path_factory.mktemp("joined") / "both.safetensors"
    swahr("join", f"first={checkpoint}", f"second={person['best']}", f"output={path}").result  # noqa: B018 - it succeeds
    return path


def test_one_checkpoint_carries_both_stages(swahr, checkpoint, person, joined, photos, tmp_path):
    image = read_image(min(photos.iterdir()))
    two = Predictor.from_checkpoint(checkpoint, second_stage=person["best"])(image)
    one = Predictor.from_checkpoint(joined)(image)
    np.testing.assert_array_equal(one.keypoints, two.keypoints)
    np.testing.assert_array_equal(one.score, two.score)
    changed = Predictor.from_checkpoint(joined, overrides=["second_stage.threshold=1.0"])(image)
    assert len(changed) == 0
    both, alone = (
        swahr(
            "predict", f"checkpoint={joined}", *more, photos, f"output={tmp_path}/{len(more)}", "draw=false"
        )
        for more in ((), ("second_stage=none",))
    )
    assert both.result["people"] == alone.result["people"] > 0
    entries = json.loads((tmp_path / "1/poses.json").read_text())["annotations"]
    expected = Predictor.from_checkpoint(checkpoint).predict(sorted(photos.iterdir()))
    assert [entry["score"] for entry in entries] == [
        round(float(score), 4) for poses in expected for score in poses.score
    ]
    assert "swahr.second_stage" not in load_checkpoint(joined).config["second_stage"]
    again = tmp_path / "again.safetensors"  # a second stage in place of an earlier one
    assert swahr("join", f"first={joined}", f"second={person['best']}", f"output={again}").code == 0
    assert str(joined) not in json.dumps(load_checkpoint(again).config)
    np.testing.assert_array_equal(Predictor.from_checkpoint(again)(image).keypoints, two.keypoints)


def test_training_takes_the_first_stage_of_a_joined_checkpoint(swahr, joined, tmp_path):
    command = ("train", "experiment=smoke", "grouping.peaks.threshold=-1", f"weights={joined}")
    assert swahr(*command, f"output={tmp_path}/t").code == 0


@pytest.mark.usefixtures("untyped")
def test_a_joined_checkpoint_is_exported_as_two_networks(
    swahr, person, joined, photos, tmp_path, monkeypatch
):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'swahr[onnx]'")
    path, second = tmp_path / "both.onnx", tmp_path / "both_second_stage.onnx"
    command = ("export", f"checkpoint={joined}", f"output={path}")
    second.touch()
    assert f"{second} is a file" in swahr(*command).error
    assert not path.exists()
    second.unlink()
    result = swahr(*command).result
    assert (result["output"], result["second_stage"]) == (str(path), str(second))
    assert "second_stage" not in load_checkpoint(path).config
    own = load_checkpoint(person["best"]).config
    own["aggregate"] |= {"flip": False, "project": False}  # the second stage itself mirrors crops
    assert load_checkpoint(second).config == own
    stages = (f"checkpoint={path}", "second_stage=crops", f"second_stage.checkpoint={second}")
    opened = []
    monkeypatch.setattr(
        "swahr.build.open_exported",
        lambda *file, **run: opened.append(run["backend"]) or open_exported(*file, **run),
    )
    for name, arguments in (("torch", [f"checkpoint={joined}"]), ("onnx", [*stages, "backend=onnxruntime"])):
        swahr("predict", *arguments, photos, "draw=false", f"output={tmp_path}/{name}").result  # noqa: B018 - it succeeds
    expected, found = (
        json.loads((tmp_path / name / "poses.json").read_text())["annotations"] for name in ("torch", "onnx")
    )
    assert len(expected) > 0
    assert opened == ["onnxruntime"]
    scores = [[person["score"] for person in people] for people in (expected, found)]
    np.testing.assert_allclose(scores[1], scores[0], atol=2e-4)
    points = [np.array([person["keypoints"] for person in people]) for people in (expected, found)]
    # The highest of an untrained network's pixels may be another one after rounding.
    assert (np.abs(points[1] - points[0]) < 0.1).mean() > 0.9


def test_what_cannot_be_joined(swahr, checkpoint, person, tmp_path):
    def error(first, second, output="x.safetensors"):
        return swahr("join", f"first={first}", f"second={second}", f"output={tmp_path}/{output}").error

    assert "expected a bottom-up network" in error(person["best"], person["best"])
    assert "expected a single-person network" in error(checkpoint, checkpoint)
    assert "ends in .safetensors" in error(checkpoint, person["best"], "x.ckpt")
    assert "no such checkpoint" in error(checkpoint, tmp_path / "no.safetensors")
    assert not list(tmp_path.glob("x.*"))


def test_a_second_stage_inside_a_checkpoint_is_checked_like_the_first(joined, tmp_path):
    with safe_open(joined, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        text = file.metadata()["swahr"]
    bad = tmp_path / "bad.safetensors"

    def write(change):
        description = json.loads(text)
        change(description)
        save_file(weights, bad, metadata={"swahr": json.dumps(description)})
        return bad

    hostile = {"_target_": "os.system", "command": "true"}
    with pytest.raises(ValueError, match=r"_target_=os\.system refused"):
        load_checkpoint(write(lambda parts: parts["second_stage"]["config"].update(model=hostile)))
    for damaged in ([], "text", {}, {"config": 3}):
        with pytest.raises(ValueError, match=r"bad.safetensors: the description inside is damaged"):
            load_checkpoint(write(lambda parts, damaged=damaged: parts.update(second_stage=damaged)))
    with pytest.raises(ValueError, match="second_stage: expected a mapping"):
        load_checkpoint(write(lambda parts: parts["config"].update(second_stage=3)))


def test_a_checkpoint_does_not_name_the_file_of_its_second_stage(checkpoint, person, tmp_path):
    with safe_open(checkpoint, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        description = json.loads(file.metadata()["swahr"])
    description["config"]["second_stage"] = {"checkpoint": person["best"]}
    path = tmp_path / "names_another.safetensors"
    save_file(weights, path, metadata={"swahr": json.dumps(description)})
    assert Predictor.from_checkpoint(path).pipeline.steps == []


@pytest.mark.usefixtures("untyped")
def test_an_exported_person_network_is_a_second_stage_and_no_first(
    swahr, checkpoint, person, photos, tmp_path, monkeypatch
):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'swahr[onnx]'")
    path = tmp_path / "person.onnx"
    several = "aggregate.test_scales=[0.5,1.0]"  # has no effect on crops
    outcome = swahr("export", f"checkpoint={person['best']}", several, f"output={path}")
    assert outcome.code == 0, outcome.stderr
    image = read_image(min(photos.iterdir()))
    expected = Predictor.from_checkpoint(checkpoint, second_stage=person["best"])(image)
    found = Predictor.from_checkpoint(checkpoint, second_stage=path)(image)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    same = np.isclose(found.scores, expected.scores, atol=1e-7) & expected.present
    np.testing.assert_allclose(found.keypoints[same], expected.keypoints[same], atol=0.05)
    assert same.mean() > 0.5  # elsewhere the untrained network's highest pixels may differ
    backends = []

    def opened(*file, **run):
        backends.append(run["backend"])
        graph = open_exported(*file, **run)
        return lambda crops: {**graph(crops), "depth": crops}

    monkeypatch.setattr("swahr.build.open_exported", opened)
    again = Predictor.from_checkpoint(checkpoint, second_stage=path)(image)  # with a map that nobody defined
    np.testing.assert_array_equal(again.keypoints, found.keypoints)
    command = ("evaluate", f"checkpoint={path}", "backend=onnxruntime", "pictures=0", f"output={tmp_path}/e")
    assert "AP" in swahr(*command).result
    assert backends == [None, "onnxruntime"]
    with pytest.raises(ValueError, match="got a single-person network"):
        Predictor.from_checkpoint(path)
    joined = swahr("join", f"first={checkpoint}", f"second={path}", f"output={tmp_path}/x.safetensors")
    assert "got an exported network" in joined.error
