"""The official networks, reproduced: same keys, same shapes, same numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from swahr.model.published import LAYOUTS, load_published, official_key, published_shapes

_, OFFICIAL, *_ = LAYOUTS
HIGHER = ("heatmaps", "tags")
SWAHR = (*HIGHER, "scale_maps")
GOLDEN = [("swahr17", 17, SWAHR), ("swahr14", 14, SWAHR), ("higher17", 17, HIGHER)]
PUBLISHED = [
    ("swahr_w32_512_coco", "w32", 17, SWAHR),
    ("swahr_w48_640_coco", "w48", 17, SWAHR),
    ("swahr_w48_640_crowdpose", "w48", 14, SWAHR),
    ("higherhrnet_w32_512_coco", "w32", 17, HIGHER),
    ("higherhrnet_w48_640_crowdpose", "w48", 14, HIGHER),
]


def _state_dict(golden_dir: Path, name: str) -> dict[str, Tensor]:
    """Stored as float16; the outputs were computed with exactly these values in float32."""
    with np.load(golden_dir / f"a_model_tiny_{name}.npz") as arrays:
        tensors = {key[3:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("sd/")}
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


@pytest.mark.parametrize(("name", "num_keypoints", "heads"), GOLDEN)
def test_maps_equal_the_official_ones(
    golden_dir: Path, small_network, name: str, num_keypoints: int, heads: tuple[str, ...]
) -> None:
    network = small_network(
        num_keypoints, heads=heads, deconv_blocks=2, stem_channels=64, layer1_blocks=4, layer1_channels=64,
        channels=[8, 16, 32, 64], modules=[1, 2, 1], blocks=2,
    ).eval()  # fmt: skip
    load_published(network, _state_dict(golden_dir, name), source=name)
    with np.load(golden_dir / f"a_model_tiny_{name}.npz") as arrays:
        images = torch.from_numpy(arrays["input"]).float()
        expected = [torch.from_numpy(arrays[f"out{level}"]) for level in (0, 1)]
    with torch.inference_mode():
        output = network(images)
    for maps, official in zip(output, expected, strict=True):
        # The official order; here it is written down once, and only here.
        ours = [maps.fields[name] for name in ("scale_maps", "heatmaps", "tags") if name in maps.fields]
        torch.testing.assert_close(torch.cat(ours, dim=1), official, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("file", "preset", "num_keypoints", "heads"), PUBLISHED)
def test_every_published_key_has_a_parameter(
    golden_json, configured_network, file: str, preset: str, num_keypoints: int, heads: tuple[str, ...]
) -> None:
    facts = golden_json(f"a_keys_{file}.json")
    network = configured_network(preset, num_keypoints, heads=heads)
    ours = published_shapes(network.state_dict(), OFFICIAL)
    assert ours == {key: tuple(shape) for key, shape, _ in facts["state_dict"]}
    assert sum(p.numel() for p in network.parameters()) == facts["n_parameters"]


def test_names_of_a_network_are_translated_one_to_one(configured_network) -> None:
    """But for the coarsest heatmaps and tags, which one official convolution predicts."""
    names = {key: official_key(key) for key in configured_network("w32", heads=SWAHR).state_dict()}
    assert None not in names.values()
    tags = {key: name for key, name in names.items() if key.startswith("heads.0.tags.")}
    assert tags == {f"heads.0.tags.conv.{end}": f"final_layers.0.{end}" for end in ("weight", "bias")}
    others = [name for key, name in names.items() if key not in tags]
    assert len(set(others)) == len(others)
    assert set(tags.values()) <= set(others)


def test_the_tags_come_after_the_heatmaps_in_the_official_tensor(small_network, published) -> None:
    network = small_network(heads=HIGHER)
    state_dict = published(network, OFFICIAL)
    load_published(network, state_dict, source="x.pth")
    for end in ("weight", "bias"):
        both = [network.state_dict()[f"heads.0.{name}.conv.{end}"] for name in HIGHER]
        assert torch.equal(torch.cat(both), state_dict[f"final_layers.0.{end}"])


def test_an_unfitting_checkpoint_is_refused_with_all_its_faults(small_network, published) -> None:
    network = small_network(heads=SWAHR)
    state_dict = published(network, OFFICIAL)
    state_dict["conv1.weight"] = torch.zeros(4, 3, 3, 3)
    state_dict["classifier.weight"] = torch.zeros(1)
    del state_dict["final_layers.1.bias"]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"^old\.pth does not fit") as caught:
        load_published(network, state_dict, source="old.pth")
    for fault in (
        "1 missing (final_layers.1.bias)",
        "1 unknown (classifier.weight)",
        "1 of another shape (conv1.weight: expected (8, 3, 3, 3), got (4, 3, 3, 3))",
    ):
        assert fault in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_without_tags_do_not_fit_a_network_with_them(small_network, published) -> None:
    state_dict = published(small_network(heads=["heatmaps"]), OFFICIAL)
    with pytest.raises(ValueError, match=r"final_layers\.0\.bias: expected \(6,\), got \(3,\)"):
        load_published(small_network(heads=HIGHER), state_dict, source="x.pth")


def test_a_weight_head_has_no_official_weights(small_network, published) -> None:
    state_dict = published(small_network(heads=SWAHR), OFFICIAL)
    with pytest.raises(ValueError, match=r"missing \(heads\.0\.log_weight_maps\.conv\.weight"):
        load_published(small_network(), state_dict, source="swahr.pth")
