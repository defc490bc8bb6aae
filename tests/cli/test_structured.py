"""Structured features, classification and occlusion maps from training to files, for any keypoints."""

import json

import pytest


@pytest.mark.usefixtures("untyped")  # for export, which traces
@pytest.mark.parametrize("keypoints", ["nine", "crowdpose"])
def test_they_train_evaluate_predict_and_export(swahr, small, nine_keypoint_dataset, tmp_path, keypoints):
    model = ("model=structured_softmax_tiny", "loss=pixel_classification", "experiment=occlusion_maps")
    data = [f"data.root={nine_keypoint_dataset}", "data=custom"] if keypoints == "nine" else [
        "data.skeleton=crowdpose", "data.module.train.size=2", "data.module.train.image_size=[64,64]",
        "data.module.val.size=1", "model=structured_tiny", "loss=swahr",
    ]  # fmt: skip
    settings = (*model, *data, *small, "grouping.peaks.threshold=-1", f"output={tmp_path}/t")
    checkpoint = f"checkpoint={swahr('train', *settings).result['best']}"
    assert "AP" in swahr("evaluate", checkpoint, f"output={tmp_path}/e").result
    image = nine_keypoint_dataset / "images/000000000001.jpg"
    people = swahr("predict", checkpoint, image, f"output={tmp_path}/p").result["people"]
    exported = swahr("export", checkpoint, f"output={tmp_path}/x.onnx")
    assert exported.code == 0, exported.stderr
    found = json.loads((tmp_path / "p/poses.json").read_text())["annotations"]
    assert people == len(found) > 0
    for person in found:
        occlusion = person["keypoint_occlusion"]
        assert len(occlusion) == (9 if keypoints == "nine" else 14)
        assert min(occlusion) >= 0
        assert max(occlusion) <= 1
