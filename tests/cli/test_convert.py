"""Published weights, from their file to a checkpoint that every command reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from swahr import Predictor
from swahr.build import build_network, model_node
from swahr.checkpoint import load_checkpoint
from swahr.cli.command import compose_config
from swahr.decode import QuarterOffset
from swahr.grouping import OfficialGrouping
from swahr.model.published import LAYOUTS
from swahr.nodes import instantiate
from swahr.skeleton import COCO, CROWDPOSE

MMPOSE, OFFICIAL, IMAGENET, _ = LAYOUTS
SMALL_NET = (
    "model.backbone.stem_channels=8", "model.backbone.layer1_blocks=1", "model.backbone.layer1_channels=4",
    "model.backbone.channels=[8,8,8,8]", "model.backbone.modules=[1,1,3]", "model.backbone.blocks=1",
    "model.deconv_channels=[8]", "model.deconv_blocks=1",
)  # fmt: skip
GOLDEN_NET = (
    "model.backbone.channels=[8,16,32,64]", "model.backbone.modules=[1,2,1]", "model.backbone.blocks=2",
    "model.deconv_channels=[8]", "model.deconv_blocks=2",
)  # fmt: skip
STANDING_STILL = ("training.optimiser.lr=0", "training.callbacks.ema=null")


def convolutions(checkpoint):
    """What training at a learning rate of 0 leaves as it was: batch norm counts."""
    return {key: value for key, value in load_checkpoint(checkpoint).weights.items() if value.ndim == 4}


def write_published(file: Path, layout, experiment: str, seed: int = 0):
    """A network with random weights, and its tensors in a file under the names of a family."""
    lively = "model.backbone.initial_std=null"
    config = compose_config("train", [f"experiment={experiment}", lively, *SMALL_NET])
    torch.manual_seed(seed)
    skeleton = {"coco": COCO, "crowdpose": CROWDPOSE}[config.data.skeleton]
    network = build_network(model_node(config.model, instantiate(config.loss).needs), skeleton)
    tensors: dict[str, torch.Tensor] = {}
    for key, value in network.state_dict().items():
        if name := layout.key(key):  # one convolution of theirs predicts heatmaps and then tags
            tensors[name] = torch.cat([tensors[name], value]) if name in tensors else value
    torch.save(tensors, file)
    return network


@pytest.mark.parametrize(
    ("layout", "experiment"),
    [(OFFICIAL, "swahr_crowdpose_w48_640"), (MMPOSE, "higherhrnet_coco_w32_512")],
    ids=["official", "mmpose"],
)
def test_a_converted_network_is_itself_and_has_its_own_settings(swahr, tmp_path, layout, experiment):
    file = tmp_path / "theirs.pth"
    network = write_published(file, layout, experiment)
    command = ["convert", f"published={file}", f"experiment={experiment}", *SMALL_NET]
    result = swahr(*command, f"output={tmp_path}/c").result
    assert result["checkpoint"] == str(tmp_path / "c/theirs.safetensors")
    assert result["weights"] == layout.name
    checkpoint = load_checkpoint(result["checkpoint"])
    assert all(torch.equal(value, checkpoint.weights[key]) for key, value in network.state_dict().items())
    assert checkpoint.skeleton == (CROWDPOSE if "crowdpose" in experiment else COCO)
    assert checkpoint.stamp["sha256"].keys() == {"theirs.pth"}
    assert checkpoint.config["expected"]["AP"] == (0.716 if "swahr" in experiment else 0.671)
    predictor = Predictor.from_checkpoint(result["checkpoint"], device="cpu")
    aggregate = predictor.pipeline.aggregate
    assert (aggregate.alignment, aggregate.project, aggregate.flip) == ("official", True, True)
    assert aggregate.input_size == (640 if "640" in experiment else 512)
    assert isinstance(predictor.pipeline.decode.group, OfficialGrouping)
    assert isinstance(predictor.pipeline.decode.refine, QuarterOffset)


@pytest.mark.parametrize(("name", "experiment"), [
    ("swahr17", "swahr_coco_w32_512"), ("swahr14", "swahr_crowdpose_w48_640"),
    ("higher17", "higherhrnet_coco_w32_512"),
])  # fmt: skip
def test_golden_networks_answer_as_the_official_ones(swahr, golden_dir, tmp_path, name, experiment):
    with np.load(golden_dir / f"a_model_tiny_{name}.npz") as arrays:
        tensors = {key[3:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("sd/")}
        images = torch.from_numpy(arrays["input"]).float()
        expected = [torch.from_numpy(arrays[f"out{level}"]) for level in (0, 1)]
    file = tmp_path / "golden.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}}, file)
    command = ["convert", f"published={file}", f"experiment={experiment}", *GOLDEN_NET]
    result = swahr(*command, f"output={tmp_path}/c").result
    predictor = Predictor.from_checkpoint(result["checkpoint"], device="cpu")
    with torch.inference_mode():
        output = predictor.network(images)
    for maps, official in zip(output, expected, strict=True):
        ours = [maps.fields[name] for name in ("scale_maps", "heatmaps", "tags") if name in maps.fields]
        torch.testing.assert_close(torch.cat(ours, dim=1), official, rtol=0, atol=1e-5)


@pytest.fixture
def converted(swahr, tmp_path) -> Path:
    """A small SWAHR network of COCO's keypoints."""
    write_published(tmp_path / "theirs.pth", OFFICIAL, "swahr_coco_w32_512")
    command = ["convert", f"published={tmp_path}/theirs.pth", *SMALL_NET, f"output={tmp_path}/c"]
    changes = ["data.module.augmentation.input_size=64", "data.module.workers=0"]
    expected = "expected={AP:0.5,tolerance:1.0,images:2}"
    data = ["data=custom", "data.skeleton=coco"]
    return Path(swahr(*command, *data, *changes, expected).result["checkpoint"])


def test_every_command_reads_a_converted_network(swahr, converted, coco_dataset, small, tmp_path):
    root = f"data.root={coco_dataset}"
    image = next((coco_dataset / "images").iterdir())
    assert swahr("predict", f"checkpoint={converted}", image, f"output={tmp_path}/p").result["images"] == 1
    assert swahr("show", f"checkpoint={converted}", image, f"output={tmp_path}/s").result["pictures"]
    evaluated = ["evaluate", f"checkpoint={converted}", "pictures=0"]
    assert "values are needed for data.root" in swahr(*evaluated).error
    assert "AP" in swahr(*evaluated, root, f"output={tmp_path}/e").result
    network = [*SMALL_NET, "model.heads.scale_maps.kernel=9"]
    start = ["train", "data=custom", root, *network, *small, *STANDING_STILL]
    best = swahr(*start, f"weights={converted}", f"output={tmp_path}/t").result["best"]
    assert set(convolutions(converted)) == set(convolutions(best))
    for key, value in convolutions(converted).items():
        assert torch.equal(value, convolutions(best)[key])
    assert converted.name in load_checkpoint(best).stamp["sha256"]


def test_evaluation_compares_with_what_is_expected_of_these_data_and_settings(
    swahr, converted, coco_dataset, tmp_path
):
    command = ["evaluate", f"checkpoint={converted}", "pictures=0", f"data.root={coco_dataset}"]
    found = swahr(*command, f"output={tmp_path}/as_stated").result
    assert found["expected"] == {"AP": 0.5, "tolerance": 1.0, "reached": True}
    kept = json.loads((tmp_path / "as_stated/metrics.json").read_text())["metrics"]
    assert kept == found
    for i, change in enumerate(["aggregate.flip=false", "data.module.val.limit=1", "grouping=gated"]):
        assert "expected" not in swahr(*command, change, f"output={tmp_path}/{i}").result


def test_an_imagenet_backbone_starts_training_and_is_not_converted(swahr, small, tmp_path):
    file = tmp_path / "hrnet.pth"
    network = write_published(file, IMAGENET, "swahr_coco_w32_512", seed=1)
    torch.save(torch.load(file, weights_only=True) | {"classifier.bias": torch.zeros(3)}, file)
    refused = swahr("convert", f"published={file}", *SMALL_NET).error
    assert "hrnet.pth: expected a pose network, got ImageNet HRNet" in refused
    assert f"swahr train weights={file}" in refused
    start = ["train", "experiment=smoke", *SMALL_NET, *STANDING_STILL]
    best = swahr(*start, f"weights={file}", f"output={tmp_path}/t").result["best"]
    theirs = network.state_dict()
    same = {key for key, value in convolutions(best).items() if torch.equal(value, theirs[key])}
    assert same == {key for key in convolutions(best) if key.startswith("backbone.")}
    assert "hrnet.pth" in load_checkpoint(best).stamp["sha256"]


def test_unconverted_weights_are_sent_to_convert(swahr, tmp_path):
    write_published(tmp_path / "theirs.pth", OFFICIAL, "swahr_coco_w32_512")
    error = swahr("evaluate", f"checkpoint={tmp_path}/theirs.pth").error
    assert "carries no swahr description; `swahr convert published=…`" in error


def test_a_misfit_is_listed_and_leaves_nothing(swahr, tmp_path):
    write_published(tmp_path / "theirs.pth", OFFICIAL, "swahr_coco_w32_512")
    command = [
        "convert",
        f"published={tmp_path}/theirs.pth",
        "experiment=higherhrnet_coco_w32_512",
        *SMALL_NET,
    ]
    error = swahr(*command, f"output={tmp_path}/c").error
    assert "0 missing; 18 unknown (conv_scale_layers.0.0.bias, " in error
    assert not list((tmp_path / "c").rglob("*.safetensors"))
    assert "values are needed for published" in swahr("convert").error
