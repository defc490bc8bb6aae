"""The official networks, reproduced: same keys, same shapes, same numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from swahr.model import HigherHRNet
from swahr.model.weights import load_published, official_key

GOLDEN = [("swahr17", 17, True), ("swahr14", 14, True), ("higher17", 17, False)]
PUBLISHED = [
    ("swahr_w32_512_coco", "w32", 17, True),
    ("swahr_w48_640_coco", "w48", 17, True),
    ("swahr_w48_640_crowdpose", "w48", 14, True),
    ("higherhrnet_w32_512_coco", "w32", 17, False),
    ("higherhrnet_w48_640_crowdpose", "w48", 14, False),
]


def _golden_network(num_keypoints: int, *, scale_head: bool) -> HigherHRNet:
    return HigherHRNet(
        num_keypoints,
        scale_head=scale_head,
        weight_head=False,
        stem_channels=64,
        layer1_blocks=4,
        layer1_channels=64,
        channels=[8, 16, 32, 64],
        modules=[1, 2, 1],
        blocks=2,
        deconv_channels=[8],
        deconv_blocks=2,
        modulation_kernel=9,
        initial_std=0.001,
    ).eval()


def _state_dict(golden_dir: Path, name: str) -> dict[str, Tensor]:
    """Stored as float16; the outputs were computed with exactly these values in float32."""
    with np.load(golden_dir / f"a_model_tiny_{name}.npz") as arrays:
        tensors = {key[3:]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("sd/")}
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


@pytest.mark.parametrize(("name", "num_keypoints", "scale_head"), GOLDEN)
def test_maps_equal_the_official_ones(
    golden_dir: Path, name: str, num_keypoints: int, scale_head: bool
) -> None:
    network = _golden_network(num_keypoints, scale_head=scale_head)
    load_published(network, _state_dict(golden_dir, name), source=name)
    with np.load(golden_dir / f"a_model_tiny_{name}.npz") as arrays:
        images = torch.from_numpy(arrays["input"]).float()
        expected = [torch.from_numpy(arrays[f"out{level}"]) for level in (0, 1)]
    with torch.inference_mode():
        output = network(images)
    for maps, official in zip(output, expected, strict=True):
        # The official order; here it is written down once, and only here.
        ours = [field for field in (maps.scales, maps.heatmaps, maps.tags) if field is not None]
        torch.testing.assert_close(torch.cat(ours, dim=1), official, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("file", "preset", "num_keypoints", "scale_head"), PUBLISHED)
def test_every_published_key_has_its_place(
    golden_json, configured_network, file: str, preset: str, num_keypoints: int, scale_head: bool
) -> None:
    facts = golden_json(f"a_keys_{file}.json")
    network = configured_network(preset, num_keypoints, scale_head=scale_head)
    ours = {official_key(key): list(value.shape) for key, value in network.state_dict().items()}
    assert ours == {key: shape for key, shape, _ in facts["state_dict"]}
    assert sum(p.numel() for p in network.parameters()) == facts["n_parameters"]


def test_names_of_a_network_are_translated_one_to_one(configured_network) -> None:
    keys = list(configured_network("w32").state_dict())
    names = [official_key(key) for key in keys]
    assert None not in names
    assert len(set(names)) == len(keys)


def test_an_unfitting_checkpoint_is_refused_with_all_its_faults(small_network) -> None:
    network = small_network(weight_head=False)
    state_dict = {official_key(key): value for key, value in network.state_dict().items()}
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


def test_a_weight_head_has_no_official_weights(small_network) -> None:
    state_dict = {
        official_key(key): value for key, value in small_network(weight_head=False).state_dict().items()
    }
    with pytest.raises(ValueError, match=r"missing \(heads\.0\.weight_map\.conv\.weight"):
        load_published(small_network(), state_dict, source="swahr.pth")
