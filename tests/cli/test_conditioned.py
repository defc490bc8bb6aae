"""A network conditioned on the first stage's pose, from training to files, on two skeletons."""

import numpy as np
import pytest
from jaxtyping import config

from swahr import Predictor, load_checkpoint
from swahr.images import read_image

CONDITION = "data.module.augmentation.condition={_target_: swahr.second_stage.PoseErrors, miss: 0.3}"


@pytest.mark.parametrize("keypoints", ["coco", "nine"])
def test_it_trains_evaluates_joins_and_predicts(
    swahr, checkpoint, small, person_settings, photos, nine_keypoint_dataset, tmp_path, monkeypatch, keypoints
):
    data = (
        ("data=custom", f"data.root={nine_keypoint_dataset}")
        if keypoints == "nine"
        else ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")
    )
    settings = (*person_settings, *data, "model=conditioned_tiny", CONDITION)
    trained = swahr("train", *settings, f"output={tmp_path}/t").result
    best = load_checkpoint(trained["best"])
    assert best.weights["paint.weight"].any()
    assert best.config["second_stage"]["condition"]["miss"] == 0.3
    evaluated = swahr("evaluate", f"checkpoint={best.path}", "pictures=0", f"output={tmp_path}/e").result
    last = {name.removeprefix("val/"): value for name, value in trained["last_validation"].items()}
    assert evaluated == pytest.approx(last, abs=1e-9)
    first, folder = checkpoint, photos
    if keypoints == "nine":
        command = ("train", *data, *small, "grouping.peaks.threshold=-1", f"output={tmp_path}/f")
        first, folder = swahr(*command).result["best"], nine_keypoint_dataset / "images"
    both = (f"checkpoint={first}", "second_stage=crops", f"second_stage.checkpoint={best.path}")
    assert swahr("predict", *both, folder, "draw=false", f"output={tmp_path}/p").result["people"] > 0
    joined = tmp_path / "both.safetensors"
    assert swahr("join", f"first={first}", f"second={best.path}", f"output={joined}").code == 0
    image = read_image(min(folder.iterdir()))
    two = Predictor.from_checkpoint(first, second_stage=best.path)(image)
    one = Predictor.from_checkpoint(joined)(image)
    np.testing.assert_array_equal(one.keypoints, two.keypoints)
    np.testing.assert_array_equal(one.score, two.score)
    pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'swahr[onnx]'")
    graphs = [tmp_path / "both.onnx", tmp_path / "both_second_stage.onnx"]
    with monkeypatch.context() as patch:
        patch.setattr(config, "jaxtyping_disable", True)  # sizes are tensors while a network is traced
        exported = swahr("export", f"checkpoint={joined}", f"output={graphs[0]}").result
    assert exported["second_stage"] == str(graphs[1])
    found = Predictor.from_checkpoint(graphs[0], second_stage=graphs[1], backend="onnxruntime")(image)
    np.testing.assert_allclose(found.score, two.score, atol=2e-4)


def test_conditions_without_a_conditioned_network_and_the_reverse_are_errors(
    swahr, person_settings, tmp_path
):
    crowds = ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")
    for number, (changes, got) in enumerate(
        (
            ([CONDITION], "HigherHRNet and PoseErrors"),
            (["model=conditioned_tiny"], "ConditionedNetwork and NoneType"),
        )
    ):
        outcome = swahr("train", *person_settings, *crowds, *changes, f"output={tmp_path}/{number}")
        assert (
            "expected a conditioned network together with data.module.augmentation.condition" in outcome.error
        )
        assert got in outcome.error
