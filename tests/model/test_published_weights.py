"""Files of other projects: every key accounted for, nothing executed."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from swahr.model import HigherHRNet
from swahr.model.published import (
    LAYOUTS,
    Layout,
    layout_of,
    load_published,
    official_key,
    published_shapes,
    read_published,
)

MMPOSE, OFFICIAL, IMAGENET, _ = LAYOUTS
HEADS = ("heatmaps", "tags")
# Parameters of classification networks that pose networks do not have.
SURPLUS = (
    "stage4.2.fuse_layers.1.0.0.0.weight", "stage4.2.fuse_layers.3.2.0.1.running_var",
    "incre_modules.3.0.downsample.1.weight", "downsamp_modules.2.0.bias", "final_layer.1.running_mean",
    "classifier.weight", "classifier.bias",
)  # fmt: skip


@pytest.fixture
def network(small_network) -> HigherHRNet:
    """Small, but with the four stages of the published ones."""
    return small_network(heads=HEADS, channels=[8, 8, 8, 8], modules=[1, 1, 3], layer1_blocks=2)


@pytest.fixture
def imagenet(network, published) -> dict[str, Tensor]:
    """The official ImageNet file of that network's backbone."""
    return published(network, IMAGENET) | {name: torch.zeros(2) for name in SURPLUS}


def part_of(state_dict: dict[str, Tensor], layout: Layout, key: str) -> Tensor:
    """What a file holds for one of our tensors; heatmaps and tags of three keypoints share one of theirs."""
    whole = state_dict[layout.key(key)]
    if ".heatmaps." in key:
        return whole[:3]
    return whole[3:] if ".tags." in key else whole


@pytest.mark.parametrize("layout", [MMPOSE, OFFICIAL], ids=lambda layout: layout.name)
def test_every_tensor_is_loaded_into_its_parameter(network, published, layout) -> None:
    state_dict = published(network, layout)
    assert load_published(network, state_dict, source="x.pth") is layout
    loaded = network.state_dict()
    assert len(state_dict) == len(loaded) - 2  # weight and bias of heatmaps and tags
    for key, value in loaded.items():
        assert torch.equal(value, part_of(state_dict, layout, key))


def test_an_imagenet_backbone_leaves_the_heads_alone(network, imagenet) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert load_published(network, imagenet, source="x.pth") is IMAGENET
    for key, value in network.state_dict().items():
        backbone = key.startswith("backbone.")
        assert torch.equal(value, imagenet[official_key(key)] if backbone else before[key])


@pytest.mark.parametrize(
    ("layout", "prefix"),
    [(MMPOSE, ("backbone.", "keypoint_head.")), (OFFICIAL, ("", "")), (IMAGENET, ("", None))],
)
@pytest.mark.parametrize(
    ("file", "preset", "num_keypoints"),
    [("higherhrnet_w32_512_coco", "w32", 17), ("higherhrnet_w48_640_crowdpose", "w48", 14)],
)
def test_names_map_completely_in_both_directions(
    golden_json, configured_network, layout, prefix, file, preset, num_keypoints
) -> None:
    """mmpose 0.x and timm keep the official names behind a prefix, or drop what they have not."""
    facts = golden_json(f"a_keys_{file}.json")["state_dict"]
    heads = ("deconv_layers.", "final_layers.")
    theirs = {
        prefix[key.startswith(heads)] + key: tuple(shape)
        for key, shape, _ in facts
        if prefix[key.startswith(heads)] is not None
    }
    network = configured_network(preset, num_keypoints, heads=HEADS)
    assert published_shapes(network.state_dict(), layout) == theirs
    assert layout_of(theirs, source="x") is layout


def test_what_is_missing_or_left_over_is_listed(network, published, imagenet) -> None:
    state_dict = dict(imagenet)
    del state_dict["stage4.2.fuse_layers.0.1.0.weight"]
    state_dict["stage4.1.fuse_layers.9.0.weight"] = torch.zeros(1)  # only the last module's are surplus
    with pytest.raises(ValueError, match="as weights of ImageNet HRNet") as caught:
        load_published(network, state_dict, source="x.pth")
    assert "1 missing (stage4.2.fuse_layers.0.1.0.weight)" in str(caught.value)
    assert "1 unknown (stage4.1.fuse_layers.9.0.weight); 0 of another shape" in str(caught.value)
    with pytest.raises(ValueError, match=r"unknown \(classifier\.bias, .*, incre_modules"):
        load_published(network, published(network, OFFICIAL) | imagenet, source="x.pth")


def test_counters_of_batches_may_be_missing(network, imagenet) -> None:
    state_dict = {key: value for key, value in imagenet.items() if not key.endswith("num_batches_tracked")}
    load_published(network, state_dict, source="x.pth")
    assert torch.equal(network.backbone.stem[0][0].weight, state_dict["conv1.weight"])


def test_an_unknown_family_is_named_by_its_first_keys(network) -> None:
    with pytest.raises(ValueError, match=r"x\.pth: expected the weights of mmpose.*\['fc\.bias'\]"):
        load_published(network, {"fc.bias": torch.zeros(1)}, source="x.pth")


def test_state_dicts_are_found_in_every_wrapping(tmp_path: Path) -> None:
    plain = {"conv1.weight": torch.ones(2), "bn1.bias": torch.zeros(1)}
    wrapped = {f"module.{key}": value for key, value in plain.items()}
    contents = {
        "plain": plain,
        "below": {"epoch": 3, "state_dict": plain},
        "parallel": {"state_dict": wrapped},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
    save_file(plain, tmp_path / "timm.safetensors")
    for file in sorted(tmp_path.iterdir()):
        found = read_published(file)
        assert found.keys() == plain.keys()
        assert torch.equal(found["conv1.weight"], plain["conv1.weight"])


class Trap:
    """What would run code if it were unpickled as pickles ask for."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"state_dict": {}, "meta": Trap(sprung)}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="swahr does not do"):
        read_published(tmp_path / "trap.pth")
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))  # the trap does work
    assert sprung.exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], {"state_dict": 1}])
def test_what_holds_no_state_dict_is_refused(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth: expected a state dict"):
        read_published(tmp_path / "x.pth")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.pth: no such file"):
        read_published(tmp_path / "x.pth")
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not a file")
        with pytest.raises(ValueError, match=name):
            read_published(tmp_path / name)
