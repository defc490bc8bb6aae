"""Checkpoints of every format there was: they load, and their networks find the people they always found."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint.regenerate import NAME, SETTINGS, maps, predictions
from safetensors import safe_open

from swahr import Predictor
from swahr.build import TEST_TIME_GROUPS, build_pipeline, build_skeleton, skeleton_facts, target_facts
from swahr.checkpoint import (
    describe_run,
    load_checkpoint,
    network_weights,
    save_checkpoint,
)
from swahr.cli.command import compose_config
from swahr.cli.resuming import read_resumable
from swahr.cli.train import train
from swahr.migration import FORMAT
from swahr.training.build import build_training

HERE = Path(__file__).resolve().parent
FORMATS = range(1, FORMAT + 1)
IN_TORCH = [f"format_{number}.{suffix}" for number in FORMATS for suffix in ("safetensors", "ckpt")]
EXPORTED = [f"format_{number}.onnx" for number in FORMATS]
NAMES_OF_FORMAT_1 = {"scales": "scale_maps", "weights": "log_weight_maps"}
NETWORK_OF_FORMAT_1 = (
    "experiment=smoke", "loss=swahr_learned", "model.backbone.stem_channels=4",
    "model.backbone.layer1_channels=2", "model.backbone.channels=[4,4,4,4]", "model.deconv_channels=[4]",
)  # fmt: skip


def stored(name: str) -> dict[str, np.ndarray]:
    """What the file predicted when it was written; maps by the names they have now."""
    with np.load(HERE / f"{name}.npz") as arrays:
        names = {key: "_".join(NAMES_OF_FORMAT_1.get(p, p) for p in key.rsplit("_", 1)) for key in arrays}
        return {names[key]: arrays[key] for key in arrays}


def assert_found(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float) -> None:
    assert len(expected["score"]) > 10
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=atol, err_msg=name)


def description(name: str = f"{NAME}.safetensors") -> dict[str, Any]:
    with safe_open(HERE / name, framework="pt") as file:
        return json.loads(file.metadata()["swahr"])


def rewritten(folder: Path, values: dict[str, Any]) -> Path:
    """The file of the present format with another description."""
    weights = load_checkpoint(HERE / f"{NAME}.safetensors").weights
    save_checkpoint(folder / "changed.safetensors", weights, json.dumps(values))
    return folder / "changed.safetensors"


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_file_predicts_what_it_predicted(name: str) -> None:
    expected = stored(name)
    assert_found(predictions(HERE / name), expected, atol=1e-4)
    found = maps(HERE / name)
    assert found.keys() == expected.keys() - {"keypoints", "scores", "score"}
    # Or some roundings of float32, in which kinds of CPU differ: maps of format 1 have values of up to 78.
    largest = max(float(np.abs(expected[name]).max()) for name in found)
    assert_found(found, expected, atol=max(1e-5, 1e-6 * largest))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_file_predicts_what_it_predicted(name: str, backend: Any) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    pytest.importorskip(backend, reason=f"needs {backend}: pip install {backend}")
    assert_found(predictions(HERE / name, backend=backend), stored(name), atol=1e-3)


def test_the_present_format_has_its_files() -> None:
    assert description()["format"] == FORMAT
    assert {path.name for path in HERE.glob(f"{NAME}.*")} >= {*IN_TORCH[-2:], EXPORTED[-1]}


def test_no_file_contains_paths_of_the_machine_that_wrote_it() -> None:
    for path in HERE.glob("format_*"):
        assert re.search(rb"/(home|mnt|root|tmp|Users|work)/", path.read_bytes()) is None, path.name


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_checkpoint_can_be_written_and_read_again(name: str, tmp_path: Path) -> None:
    first = load_checkpoint(HERE / name)
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, first.weights, describe_run(first.config, first.facts, first.skeleton, first.stamp))
    again = load_checkpoint(path)
    for part in ("config", "facts", "skeleton", "stamp"):
        assert getattr(again, part) == getattr(first, part)
    assert again.weights.keys() == first.weights.keys()
    assert all(torch.equal(again.weights[key], value) for key, value in first.weights.items())
    for key, value in predictions(path).items():
        np.testing.assert_array_equal(value, predictions(HERE / name)[key])


def settings(pipeline: Any) -> dict[str, Any]:
    """The settings of a test-time pipeline."""
    decode = pipeline.decode
    parts = (pipeline.aggregate, decode.extract_peaks, decode.group, decode.refine, decode.recover)
    return {type(part).__name__: vars(part) for part in parts} | {"steps": pipeline.steps}


def test_groups_that_are_newer_than_a_file_take_their_defaults(tmp_path: Path) -> None:
    values = description()
    for group in (*TEST_TIME_GROUPS, "targets", "evaluation"):
        del values["config"][group]
    predictor = Predictor.from_checkpoint(rewritten(tmp_path, values), device="cpu")
    config = compose_config("train", ["aggregate.input_size=512"])
    skeleton = build_skeleton("coco")
    assert skeleton is not None
    facts = skeleton_facts(skeleton) | target_facts(config.targets) | {"size_multiple": 8}
    assert settings(predictor.pipeline) == settings(build_pipeline(config, facts))
    read = load_checkpoint(predictor_file := tmp_path / "changed.safetensors")
    assert read.config["evaluation"] == {"_target_": config.evaluation._target_}
    composed = compose_config("evaluate", [f"checkpoint={predictor_file}"])
    assert (composed.postprocess, composed.evaluation) == ({}, read.config["evaluation"])


@pytest.mark.parametrize(
    ("group", "part", "setting", "value", "default"),
    [
        ("aggregate", "aggregate", "input_size", 64, 512),
        ("decode.refine", "decode.refine", "kernel_size", 7, 11),
        ("grouping.peaks", "decode.extract_peaks", "threshold", 0.3, 0.1),
        ("grouping.rule", "decode.group", "tag_threshold", 0.5, 1.0),
    ],
)
def test_a_setting_that_is_newer_than_a_file_takes_the_constructors_default(
    group: str, part: str, setting: str, value: Any, default: Any, tmp_path: Path
) -> None:
    def built(path: Path) -> Any:
        found: Any = Predictor.from_checkpoint(path, device="cpu").pipeline
        for name in part.split("."):
            found = getattr(found, name)
        return getattr(found, setting)

    values = description()
    node = values["config"]
    for name in group.split("."):
        node = node[name]
    assert setting in node
    node[setting] = value
    assert built(rewritten(tmp_path, values)) == value != default
    del node[setting]
    assert built(rewritten(tmp_path, values)) == default


def test_training_does_not_go_on_from_an_older_version(tmp_path: Path) -> None:
    older = HERE / "format_1.ckpt"
    message = rf"format_1\.ckpt.*an older one wrote it.*weights={re.escape(str(older))}"
    with pytest.raises(ValueError, match=message):
        read_resumable(older)
    with pytest.raises(ValueError, match=message):
        train(compose_config("train", ["experiment=smoke", f"ckpt={older}", f"output={tmp_path}/run"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "network"), [("format_1.ckpt", NETWORK_OF_FORMAT_1), (f"{NAME}.ckpt", SETTINGS)]
)
def test_training_starts_from_the_weights_of_any_version(
    name: str, network: tuple[str, ...], tmp_path: Path
) -> None:
    config = compose_config("train", [*network, f"weights={HERE / name}", f"output={tmp_path}"])
    started = network_weights(build_training(config, tmp_path).module.state_dict())
    checkpoint = load_checkpoint(HERE / name)
    assert started.keys() == checkpoint.weights.keys()
    assert all(torch.equal(started[key], value) for key, value in checkpoint.weights.items())


def test_training_resumes_from_this_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ckpt = HERE / f"{NAME}.ckpt"
    folder = tmp_path / "run"
    train(compose_config("train", [*SETTINGS, "trainer.max_epochs=2", f"ckpt={ckpt}", f"output={folder}"]))
    assert json.loads(capsys.readouterr().out)["last_validation"]
    states = [torch.load(file, weights_only=True) for file in (ckpt, folder / "last.ckpt")]
    assert [state["global_step"] for state in states] == [2, 4]
