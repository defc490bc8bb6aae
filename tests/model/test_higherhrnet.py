import pytest
import torch
from torch import nn
from torch.nn import functional as F

from swahr.model import HigherHRNet
from swahr.model.higherhrnet import IMAGENET_MEAN, IMAGENET_STD


def _awake(network: HigherHRNet) -> HigherHRNet:
    """With weights as after training: outputs of order 1, in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    return network.eval()


def test_maps_are_named_and_come_coarse_to_fine(small_network, images) -> None:
    network = small_network()
    coarse, fine = network(images)
    assert network.strides == (coarse.stride, fine.stride) == (4, 2)
    assert coarse.heatmaps.shape == coarse.tags.shape == coarse.scale_maps.shape == (2, 3, 16, 24)
    assert fine.heatmaps.shape == fine.scale_maps.shape == fine.log_weight_maps.shape == (2, 3, 32, 48)
    assert fine.tags is None


def test_heads_that_are_left_out_predict_nothing(small_network, images) -> None:
    for maps in small_network(heads=["heatmaps", "tags"])(images):
        assert maps.scale_maps is None
        assert maps.log_weight_maps is None
    coarse, _ = small_network(heads=["heatmaps", "tags", "log_weight_maps"])(images)
    assert coarse.fields.keys() == {"heatmaps", "tags", "log_weight_maps"}


@pytest.mark.parametrize(("deconv_channels", "strides"), [([], (4,)), ([8], (4, 2)), ([8, 8], (4, 2, 1))])
def test_one_resolution_more_per_deconvolution(small_network, images, deconv_channels, strides) -> None:
    network = small_network(deconv_channels=deconv_channels)
    output = network(images)
    assert network.strides == tuple(maps.stride for maps in output) == strides
    for maps in output:
        assert maps.heatmaps.shape[2:] == (64 // maps.stride, 96 // maps.stride)


def test_a_third_deconvolution_is_refused(small_network) -> None:
    with pytest.raises(ValueError, match="down to stride 1 at most"):
        small_network(deconv_channels=[8, 8, 8])


@pytest.mark.parametrize("name", ["w32", "w48", "tiny", "hrnet_w32"])
def test_presets_want_multiples_of_32(configured_network, name) -> None:
    network = configured_network(name)
    assert network.size_multiple == 32
    assert network.strides == ((4,) if name.startswith("hrnet") else (4, 2))


@pytest.mark.parametrize(("name", "millions"), [("w32", 28.6), ("w48", 63.8)])
def test_presets_have_the_published_size(configured_network, name, millions) -> None:
    network = configured_network(name, heads=["heatmaps", "tags", "scale_maps"])
    count = sum(p.numel() for p in network.parameters())
    assert round(count / 1e6, 1) == millions


def test_channels_and_modules_must_fit(small_network) -> None:
    with pytest.raises(ValueError, match=r"got channels \[8, 8, 8\] and modules \[1\]"):
        small_network(modules=[1])
    with pytest.raises(ValueError, match="expected positive"):
        small_network(blocks=0)


@pytest.mark.parametrize("size", [(72, 64), (64, 90)])
def test_an_unfitting_size_is_refused(small_network, size) -> None:
    with pytest.raises(ValueError, match=f"multiples of 16, got {size[0]} x {size[1]}; resize or pad"):
        small_network()(torch.zeros(1, 3, *size))


def test_uint8_images_are_normalised_inside(small_network, images) -> None:
    network = _awake(small_network())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    raw, normalised = network(images), network((images.float() / 255 - mean) / std)
    for a, b in zip(raw, normalised, strict=True):
        torch.testing.assert_close(a.heatmaps, b.heatmaps)
    assert (raw[0].heatmaps - network(images.float())[0].heatmaps).abs().max() > 0.1
    assert not {"mean", "std"} & network.state_dict().keys()


def test_training_starts_as_published_and_without_adaptation(small_network, images) -> None:
    network = small_network()
    for maps in network(images):
        assert not maps.scale_maps.any()
        assert not maps.log_weight_maps.any()
        assert maps.heatmaps.abs().max() < 0.1
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.momentum == 0.1 and (norm.weight == 1).all() and not norm.bias.any() for norm in norms)
    first = network.backbone.stem[0][0].weight
    assert first.std().item() == pytest.approx(0.001, rel=0.2)


def test_a_neutral_scale_head_can_learn(small_network, images) -> None:
    network = small_network()
    sum(maps.scale_maps.sum() for maps in network(images)).backward()
    for heads in network.heads:
        assert heads["scale_maps"].smooth.weight.grad.abs().sum() > 0


def test_modulation_maps_stay_float32_under_autocast(small_network, images) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = small_network()(images)
    assert all(maps.scale_maps.dtype == maps.log_weight_maps.dtype == torch.float32 for maps in output)
    assert all(maps.heatmaps.dtype == torch.bfloat16 for maps in output)


def test_scale_and_weight_heads_are_not_fed_on(small_network, images) -> None:
    """What they predict must not change the heatmaps, as in the official network."""
    network = _awake(small_network())
    before = network(images)
    for heads in network.heads:
        heads["scale_maps"].initialise()
        heads["log_weight_maps"].initialise()
    after = network(images)
    assert before[0].scale_maps.any()
    assert not after[0].scale_maps.any()
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a.heatmaps, b.heatmaps)


@pytest.mark.parametrize("level", [0, 1])
def test_convention_the_receptive_field_is_centred_on_the_pixel(small_network, level) -> None:
    """The input gradient of one map pixel is centred where the pixel convention puts that pixel."""
    network = small_network(stem_channels=16, channels=[16, 16], modules=[1], deconv_channels=[16]).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 0.01)  # every path adds up: no cancelling
    images = torch.ones(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    maps = network.eval()(images)[level]
    row, column = 60 // maps.stride, 76 // maps.stride
    maps.heatmaps[0, 0, row, column].backward()
    sensitivity = images.grad.abs().sum(dim=(0, 1))
    centres = torch.arange(128) + 0.5
    x = (sensitivity.sum(0) * centres).sum() / sensitivity.sum()
    y = (sensitivity.sum(1) * centres).sum() / sensitivity.sum()
    expected = torch.tensor([(column + 0.5) * maps.stride, (row + 0.5) * maps.stride], dtype=torch.float64)
    # Strided convolutions are index-aligned, each half a pixel of its input low: about 2.3 px in all, which
    # training makes up for. A transposed or nearest-neighbour step out of place would add at least 1 px.
    assert (torch.stack([x, y]) - expected).abs().max() < 2.5


def test_a_translated_image_gives_translated_maps(small_network) -> None:
    """Shifting by the coarsest branch's stride shifts every map alike, away from the border."""
    network = _awake(small_network(channels=[8, 8], modules=[1], deconv_channels=[8]))
    picture = torch.zeros(1, 3, 160, 160)
    picture[..., 72:88, 72:88] = torch.randn(1, 3, 16, 16)
    shifted = F.pad(picture, (16, -16, 8, -8))
    for a, b in zip(network(picture), network(shifted), strict=True):
        dx, dy = 16 // a.stride, 8 // a.stride
        margin = 48 // a.stride
        moved = torch.roll(a.heatmaps, (dy, dx), dims=(2, 3))[..., margin:-margin, margin:-margin]
        assert moved.std() > 0.1
        torch.testing.assert_close(b.heatmaps[..., margin:-margin, margin:-margin], moved)
