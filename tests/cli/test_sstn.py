"""A symmetric spatial transformer from training to files, on two skeletons."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from swahr import load_checkpoint
from swahr.build import build_network_from
from swahr.inference import open_exported


@pytest.mark.usefixtures("untyped")  # for export, which traces
@pytest.mark.parametrize("keypoints", ["coco", "nine"])
def test_it_trains_evaluates_predicts_and_exports(
    swahr, checkpoint, small, person_settings, photos, nine_keypoint_dataset, tmp_path, keypoints
):
    data = (
        ("data=custom", f"data.root={nine_keypoint_dataset}")
        if keypoints == "nine"
        else ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")
    )
    settings = ("model=sstn_tiny", "training=sstn", *person_settings, *data)
    trained = swahr("train", *settings, f"output={tmp_path}/t").result
    best = load_checkpoint(trained["best"])
    assert any(name.startswith("localise.") for name in best.weights)
    assert all(name.startswith(("network.", "localise.")) for name in best.weights)
    assert list(best.config["model"]["network"]["heads"]) == ["heatmaps"]
    assert (best.weights["localise.linear.bias"] != 0).any()
    if keypoints == "nine":
        first = swahr("train", *data, *small, "grouping.peaks.threshold=-1", f"output={tmp_path}/f").result[
            "best"
        ]
        folder = nine_keypoint_dataset / "images"
    else:
        first, folder = checkpoint, photos
    assert "AP" in swahr("evaluate", f"checkpoint={best.path}", "pictures=0", f"output={tmp_path}/e").result
    both = (f"checkpoint={first}", "second_stage=crops", f"second_stage.checkpoint={best.path}")
    assert swahr("predict", *both, folder, "draw=false", f"output={tmp_path}/p").result["people"] > 0
    if keypoints == "nine" or not (find_spec("onnx") and find_spec("onnxruntime")):
        return
    path = tmp_path / "x.onnx"
    assert swahr("export", f"checkpoint={best.path}", f"output={path}").code == 0
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 32), dtype=np.uint8))
    with torch.no_grad():
        expected = build_network_from(best).eval()(crops)[0].heatmaps
    found = open_exported(path, backend="onnxruntime")(crops)["heatmaps"]
    torch.testing.assert_close(torch.as_tensor(found), expected, rtol=0, atol=1e-4)
