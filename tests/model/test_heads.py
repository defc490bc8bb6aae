"""Heads: one map each, at their resolutions, under their names."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from swahr.map_kinds import MapKind, mirror_columns
from swahr.model import Head, HeatmapHead, HigherHRNet, HRNet, ScaleMapHead, TagHead, WeightMapHead


class DepthHead(Head):
    """A head of one's own: one channel, whatever the number of keypoints, which the next resolution sees."""

    kind = MapKind("depth", "depth", mirror=mirror_columns)
    feeds_deconvolution = True
    outputs = 1

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 1, 1)

    def forward(self, feature: Tensor) -> Tensor:
        return self.conv(feature)


def network_with(**heads) -> HigherHRNet:
    backbone = HRNet(
        stem_channels=8, layer1_blocks=1, layer1_channels=4, channels=[8, 8], modules=[1], blocks=1
    )
    return HigherHRNet(backbone, heads, deconv_channels=[8], deconv_blocks=1)


HEATMAPS = partial(HeatmapHead, num_keypoints=3)


def test_tags_are_predicted_at_the_coarsest_resolution_only(small_network, images) -> None:
    network = small_network(deconv_channels=[8, 8])
    assert [
        any(isinstance(head, TagHead) for head in level.values()) for level in network.heads
    ] == [True, False, False]  # fmt: skip
    assert [maps.tags is not None for maps in network(images)] == [True, False, False]


def test_every_map_has_weights_under_its_own_name(small_network) -> None:
    keys = small_network().state_dict().keys()
    for name in ("heatmaps", "tags", "scale_maps", "log_weight_maps"):
        assert f"heads.0.{name}.conv.weight" in keys
        assert (f"heads.1.{name}.conv.weight" in keys) == (name != "tags")


@pytest.mark.parametrize("head", [ScaleMapHead, WeightMapHead])
@pytest.mark.parametrize("kernel", [3, 9])
def test_modulation_maps_are_exactly_zero_to_begin_with(head, kernel) -> None:
    made = head(8, 3, kernel=kernel)
    made.initialise()
    maps = made(torch.randn(2, 8, 6, 7))
    assert maps.shape == (2, 3, 6, 7)
    assert torch.equal(maps, torch.zeros_like(maps))


def test_heads_are_initialised_as_published() -> None:
    head = HeatmapHead(256, 17)
    head.initialise()
    assert head.conv.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not head.conv.bias.any()


def test_a_deconvolution_sees_the_maps_that_are_fed_on() -> None:
    """The transposed convolution's inputs: 8 channels of the feature, 3 heatmaps, 3 tags, 1 of one's own."""
    tags, scale_maps = partial(TagHead, num_keypoints=3), partial(ScaleMapHead, num_keypoints=3)
    for heads, inputs in (
        ({"heatmaps": HEATMAPS}, 11),
        ({"heatmaps": HEATMAPS, "scale_maps": scale_maps}, 11),
        ({"heatmaps": HEATMAPS, "tags": tags}, 14),
        ({"heatmaps": HEATMAPS, "tags": tags, "depth": DepthHead}, 15),
    ):
        assert network_with(**heads).deconvolutions[0].upsample[0].in_channels == inputs


def test_a_head_of_ones_own_predicts_a_map_of_its_name(images) -> None:
    network = network_with(heatmaps=HEATMAPS, depth=DepthHead)
    for maps in network(images):
        assert maps.fields.keys() == {"heatmaps", "depth"}
        assert maps.fields["depth"].shape == (2, 1, *maps.heatmaps.shape[2:])
        assert maps.tags is None


def test_a_network_without_heatmaps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head named 'heatmaps' .* got \['depth'\]"):
        network_with(depth=DepthHead)


def test_a_head_under_another_name_than_its_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.heads\.tags is a HeatmapHead, which predicts 'heatmaps'"):
        network_with(heatmaps=HEATMAPS, tags=HEATMAPS)
