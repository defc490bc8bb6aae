"""`swahr export`, and commands that are given what it wrote."""

import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from swahr import Predictor
from swahr.checkpoint import load_checkpoint
from swahr.synthetic import SyntheticSource

pytestmark = [
    pytest.mark.usefixtures("untyped"),
    pytest.mark.skipif(find_spec("onnx") is None, reason="needs onnx: pip install 'swahr[onnx]'"),
]
BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}: pip install {name}")
    )
    for name in ("onnxruntime", "openvino")
]


@pytest.fixture(scope="module")
def exported(swahr, checkpoint, tmp_path_factory):
    """Makes the file when first called: within a test, where the checks of shapes are off."""
    path = tmp_path_factory.mktemp("export") / "best.onnx"

    def export():
        if not path.exists():
            result = swahr("export", f"checkpoint={checkpoint}", f"output={path}").result
            assert result == {"output": str(path), "skeleton": "coco", "bytes": path.stat().st_size}
            assert list(path.parent.iterdir()) == [path]  # no log, no folder of Hydra's
        return path

    return export


def test_the_exported_description_equals_the_checkpoints(exported, checkpoint):
    inside, original = load_checkpoint(exported()), load_checkpoint(checkpoint)
    assert inside.weights == {}
    for name in ("config", "skeleton", "stamp"):
        assert getattr(inside, name) == getattr(original, name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_poses_are_those_of_the_checkpoint(exported, checkpoint, backend):
    images = [SyntheticSource(size=1, seed=i, image_size=(64, 60 + i))[0].image for i in range(3)]
    expected = Predictor.from_checkpoint(checkpoint, device="cpu").predict(images)
    found = Predictor.from_checkpoint(exported(), backend=backend).predict(images)
    assert sum(map(len, expected)) > 0
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.present, other.present)
        np.testing.assert_allclose(other.keypoints, one.keypoints, rtol=0, atol=1e-2)
        np.testing.assert_allclose(other.scores, one.scores, rtol=0, atol=1e-5)


def test_commands_take_it_as_model_or_checkpoint(swahr, exported, tmp_path):
    metrics = swahr("evaluate", f"model={exported()}", f"output={tmp_path}/e", "pictures=0").result
    assert "AP" in metrics
    source = tmp_path / "crowds"
    assert (
        swahr("render", "data.module.val.image_size=[64,80]", "count=2", "split=val", f"output={source}").code
        == 0
    )
    for key in ("model", "checkpoint"):
        folder = tmp_path / key
        result = swahr("predict", f"{key}={exported()}", source / "images", f"output={folder}").result
        assert result["images"] == 2
        info = json.loads((folder / "poses.json").read_text())["info"]
        assert info["sha256"].keys() == {"best.onnx"}


def test_what_is_inside_cannot_be_changed_and_the_rest_can(swahr, exported, tmp_path):
    image = tmp_path / "images"
    assert (
        swahr("render", "data.module.val.image_size=[64,80]", "count=1", "split=val", f"output={image}").code
        == 0
    )
    command = ["predict", f"model={exported()}", image / "images"]
    error = swahr(*command, "aggregate.flip=false", f"output={tmp_path}/a").error
    assert "best.onnx was exported with aggregate.flip=True" in error
    assert "export the network again" in error
    error = swahr(*command, "device=cuda", f"output={tmp_path}/b").error
    assert "an exported network runs on the CPU" in error
    assert swahr(*command, "aggregate.input_size=128", "decode=quarter", f"output={tmp_path}/c").code == 0


def test_where_an_export_does_not_fit(swahr, exported, checkpoint, tmp_path):
    error = swahr("show", f"checkpoint={exported()}", f"output={tmp_path}/s").error
    assert "best.onnx: expected a .safetensors or .ckpt, for the maps of the network" in error
    error = swahr("train", "experiment=smoke", f"weights={exported()}", f"output={tmp_path}/t").error
    assert "best.onnx: expected a checkpoint with weights for PyTorch" in error
    error = swahr("evaluate", f"checkpoint={checkpoint}", "backend=openvino", f"output={tmp_path}/p").error
    assert "expected an exported .onnx file for backend=openvino" in error
    error = swahr("export", f"checkpoint={checkpoint}", f"output={tmp_path}/model.pt").error
    assert "expected a file that ends in .onnx" in error
    error = swahr("export", f"checkpoint={checkpoint}", f"output={exported()}").error
    assert "choose another output=" in error
    several = "aggregate.test_scales=[0.5,1.0]"
    error = swahr("export", f"checkpoint={checkpoint}", several, f"output={tmp_path}/m.onnx").error
    assert "add 'aggregate.test_scales=[1.0]'" in error
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a network")
    error = swahr("predict", f"model={damaged}", "x.jpg", f"output={tmp_path}/d").error
    assert "damaged.onnx" in error


def test_without_onnx_the_error_says_how_to_get_it(swahr, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    error = swahr("export", f"checkpoint={checkpoint}", f"output={tmp_path}/x.onnx").error
    assert "pip install 'swahr[onnx]'" in error
