"""Every part of the second stage, from training to an exported network, on three skeletons.

Left out on COCO and CrowdPose are parts inside others: a plain single-person network is part of SSTN, and
`test_second_stage.py` has it on three skeletons; structured features are part of the classification of
pixels, and occlusion maps of adversarial training.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from swahr import load_checkpoint
from swahr.synthetic import SyntheticSource

pytestmark = [
    pytest.mark.usefixtures("untyped"),  # for export, which traces
    pytest.mark.skipif(
        not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs onnx: pip install 'swahr[onnx]'"
    ),
]

CROWDS = (
    "data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1",
    "trainer.num_sanity_val_steps=0", "training.callbacks.curves=null", "training.callbacks.progress=null",
)  # fmt: skip
CLASSIFICATION = ("model=structured_softmax_tiny", "loss=pixel_classification")
ADVERSARIAL = (
    "trainer.gradient_clip_val=null", "training.module.pose_discriminator.channels=[8]",
    "training.module.confidence_discriminator.channels=[8]", "model.channels=8",
)  # fmt: skip
OF_ALL = {  # bottom-up networks
    "plain": ("loss=mse",),
    "structured": ("loss=mse", "model=structured_tiny"),
    "classification": CLASSIFICATION,
    "occlusion": ("loss=swahr", "experiment=occlusion_maps"),
    "adversarial": (
        "loss=mse", "model=stacked_tiny", "experiment=occlusion_maps", "training=adversarial", *ADVERSARIAL,
    ),
}  # fmt: skip
OF_ONE = {  # single-person networks
    "person": (),
    "sstn": ("model=sstn_tiny", "training=sstn"),
    "sstn_occlusion": ("model=sstn_tiny", "training=sstn", "experiment=[person,occlusion_maps]"),
    "person_structured": ("model=structured_tiny", "model.deconv_channels=[]"),
    "person_classification": (*CLASSIFICATION, "model.deconv_channels=[]"),  # and tags, which nobody needs
    "person_adversarial": (
        "experiment=adversarial_crops", "trainer.check_val_every_n_epoch=1", *ADVERSARIAL,
    ),
}  # fmt: skip
WEIGHTS = {  # some that show that the part was built
    "sstn": "localise.linear.bias", "sstn_occlusion": "network.heads.0.occlusion.conv.weight",
    "person_adversarial": "joins.0.0.weight", "adversarial": "joins.0.0.weight",
}  # fmt: skip
KEYPOINTS = {"coco": 17, "crowdpose": 14, "nine": 9}
NINE = ["structured", "classification", "occlusion", "adversarial", *OF_ONE]
OTHERS = ["classification", "adversarial", "sstn", "person_structured", "person_adversarial"]
COMBINATIONS = [("nine", part) for part in NINE] + [
    (name, part) for name in ("coco", "crowdpose") for part in OTHERS
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The settings of each skeleton's rendered crowds."""
    sides = ("shoulder", "wrist", "hip", "ankle")
    names = ["nose", *(f"{side}_{name}" for name in sides for side in ("left", "right"))]
    limbs = [names[:2], ["nose", names[2]], *zip(names[1:7], names[3:], strict=True), names[5:7]]
    path = tmp_path_factory.mktemp("nine") / "nine.yaml"
    path.write_text(json.dumps({"name": "nine", "keypoints": names, "limbs": [list(limb) for limb in limbs]}))
    skeletons = {"coco": "coco", "crowdpose": "crowdpose", "nine": path}
    return {
        name: (*CROWDS, f"data.skeleton={own}", *(["evaluation=crowdpose"] if name == "crowdpose" else []))
        for name, own in skeletons.items()
    }


@pytest.fixture(scope="module")
def train(swahr, small, person_settings, data, tmp_path_factory):
    """Trains a part on a skeleton, once; returns the checkpoint."""
    known = {}

    def of(name, part):
        if (name, part) not in known:
            if part in OF_ALL:
                settings = [*small, *data[name], "grouping.peaks.threshold=-1", *OF_ALL[part]]
            else:
                own = any("experiment=" in setting for setting in OF_ONE[part])
                settings = [*person_settings[own:], *data[name], *OF_ONE[part]]
            folder = tmp_path_factory.mktemp(part) / "run"
            known[name, part] = Path(swahr("train", *settings, f"output={folder}").result["best"])
        return known[name, part]

    return of


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "crowd.png"
    assert cv2.imwrite(str(path), SyntheticSource(size=1, seed=3, image_size=(64, 80))[0].image[..., ::-1])
    return path


@pytest.mark.parametrize(("name", "part"), COMBINATIONS)
def test_a_part_trains_evaluates_predicts_and_exports(swahr, train, image, tmp_path, name, part):
    best, exported = train(name, part), tmp_path / "exported.onnx"
    assert WEIGHTS.get(part) in {None, *load_checkpoint(best).weights}
    assert "AP" in swahr("evaluate", f"checkpoint={best}", "pictures=0", f"output={tmp_path}/e").result
    assert swahr("export", f"checkpoint={best}", f"output={exported}").result["bytes"] > 0
    found = []
    for file in (best, exported):
        networks = [f"checkpoint={file}"]
        if part in OF_ONE:
            networks = [
                f"checkpoint={train(name, 'plain')}", "second_stage=crops", f"second_stage.checkpoint={file}",
            ]  # fmt: skip
        swahr("predict", *networks, image, "draw=false", f"output={tmp_path}/{file.stem}").result  # noqa: B018 - it succeeds
        found.append(json.loads((tmp_path / file.stem / "poses.json").read_text())["annotations"])
    has_occlusion = any(word in part for word in ("occlusion", "adversarial"))
    values = {"keypoints": 3, "score": 1} | ({"keypoint_occlusion": 1} if has_occlusion else {})
    for one, other in zip(*found, strict=True):
        assert ("keypoint_occlusion" in one) == has_occlusion
        for value, count in values.items():
            expected, again = (np.reshape(pose[value], -1) for pose in (one, other))
            assert len(expected) == (count * KEYPOINTS[name] if value != "score" else 1)
            # The highest of an untrained network's pixels may be another one after rounding.
            assert np.mean(np.abs(again - expected) < 0.1) > 0.9, value
        np.testing.assert_allclose(other["score"], one["score"], rtol=0, atol=2e-4)
        assert min(one.get("keypoint_occlusion", [0])) >= 0
        assert max(one.get("keypoint_occlusion", [0])) <= 1
    assert len(found[0]) > 0
