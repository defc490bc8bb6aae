"""Maps over images and the labelled figure of all of them."""

import numpy as np
import pytest
import torch

from swahr import map_kinds
from swahr.draw import panels
from swahr.draw.maps import draw_map, hatch_invalid, map_overlay
from swahr.draw.palette import keypoint_colours
from swahr.draw.panels import map_panels
from swahr.map_kinds import MapKind, define_map, mirror_columns
from swahr.skeleton import CROWDPOSE
from swahr.structures import Maps, MapTargets

K = 4
OWN_KINDS = {
    "limbs": MapKind("limbs", "limbs", mirror=mirror_columns, colours="RdBu_r", symmetric=True),
    "depth": MapKind(
        "depth", "depth", mirror=mirror_columns, colours="RdBu_r", symmetric=True, at_keypoints=False
    ),
}


@pytest.fixture
def own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds of maps whose channels are not keypoints; they are forgotten after the test."""
    monkeypatch.setattr(map_kinds, "_KINDS", dict(map_kinds._KINDS))
    for kind in OWN_KINDS.values():
        define_map(kind)


def grey() -> np.ndarray:
    return np.full((64, 96, 3), 120, dtype=np.uint8)


def draw_heatmaps(image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    return draw_map(image, "heatmaps", maps, maps)


def lit(*spots: tuple[int, int, int]) -> torch.Tensor:
    """Heatmaps of stride 4 with a block of ones around each (keypoint, row, column)."""
    maps = torch.zeros(K, 16, 24)
    for keypoint, row, column in spots:
        maps[keypoint, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    return maps


def test_a_lit_spot_has_its_keypoints_colour_at_its_position() -> None:
    drawn = draw_heatmaps(grey(), lit((0, 4, 5), (2, 10, 18)))
    colours = keypoint_colours(K)
    assert tuple(drawn[4 * 4 + 2, 5 * 4 + 2]) == colours[0]
    assert tuple(drawn[10 * 4 + 2, 18 * 4 + 2]) == colours[2]
    assert len(set(drawn[40:64, 0:40].reshape(-1, 3)[:, 0])) == 1  # elsewhere only the dimmed image


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_convention_enlarged_maps_cover_the_whole_image(stride: int) -> None:
    maps = torch.zeros(1, 64 // stride, 96 // stride)
    maps[0, -2:, -2:] = 1.0
    drawn = draw_heatmaps(grey(), maps)
    colour = keypoint_colours(1)[0]
    assert tuple(drawn[-1, -1]) == colour
    assert tuple(drawn[0, 0]) != colour


def test_tags_of_two_people_have_two_colours_and_nothing_shows_without_heat() -> None:
    heat = lit((0, 4, 5), (1, 10, 18))
    tags = torch.full((K, 16, 24), 9.0)  # values off the keypoints must not matter
    tags[0, 3:6, 4:7], tags[1, 9:12, 17:20] = -1.0, 2.0
    drawn = draw_map(grey(), "tags", tags, heat)
    background = drawn[60, 2]
    first, second = drawn[18, 22], drawn[42, 74]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, background)
    assert np.array_equal(drawn[2, 90], background)


def test_scale_map_diverges_from_white_at_zero() -> None:
    heat = lit((0, 4, 5), (1, 10, 18), (2, 4, 18))
    alpha = torch.zeros(K, 16, 24)
    alpha[0, 3:6, 4:7], alpha[1, 9:12, 17:20] = 0.5, -0.5
    drawn = draw_map(grey(), "scale_maps", alpha, heat).astype(int)
    narrowed, widened, plain = drawn[18, 22], drawn[42, 74], drawn[18, 74]
    assert narrowed[0] > narrowed[2]
    assert widened[2] > widened[0]
    assert np.ptp(plain) < 6
    assert plain.min() > 230


def test_weight_map_shows_departures_from_one() -> None:
    log_weight = torch.zeros(K, 16, 24)
    log_weight[1, 4, 5], log_weight[2, 10, 18] = 1.0, -1.0
    drawn = draw_map(grey(), "log_weight_maps", log_weight, torch.zeros(K, 16, 24)).astype(int)
    assert drawn[18, 22][0] > drawn[18, 22][2]  # orange
    assert drawn[42, 74][2] > drawn[42, 74][1]  # purple


@pytest.mark.parametrize("name", ["heatmaps", "tags", "scale_maps", "log_weight_maps", *OWN_KINDS])
@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.usefixtures("own_kinds")
def test_constant_and_empty_maps_are_drawn(name: str, value: float) -> None:
    drawn = draw_map(grey(), name, torch.full((K, 16, 24), value), torch.zeros(K, 16, 24))
    assert drawn.shape == (64, 96, 3)


@pytest.mark.usefixtures("own_kinds")
def test_channels_that_are_not_keypoints_show_the_value_that_departs_most_from_0() -> None:
    """At keypoints only, or everywhere, as the kind has it."""
    values = torch.zeros(2, 16, 24)
    values[0, 3:6, 4:7], values[1, 3:6, 4:7] = -4.0, 2.0
    values[1, 9:12, 17:20] = 4.0
    heat = lit((0, 4, 5))
    only_there = map_overlay(grey(), "limbs", values, heat)
    everywhere = map_overlay(grey(), "depth", values, heat)
    assert only_there.limits == everywhere.limits == (-4.0, 4.0)
    blue, red, background = only_there.image[18, 22], everywhere.image[42, 74], only_there.image[60, 2]
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert np.array_equal(only_there.image[42, 74], background)
    assert not np.array_equal(everywhere.image[60, 2], background)


def test_only_what_may_not_be_learned_is_hatched() -> None:
    valid = torch.ones(16, 24, dtype=torch.bool)
    valid[:, :12] = False
    hatched = (hatch_invalid(grey(), valid) != 120).any(-1)
    assert 0.1 < hatched[:, :48].mean() < 0.5
    assert not hatched[:, 48:].any()


def _maps(stride: int, **channels: int) -> Maps:
    """Random maps of two images: heatmaps of 14 keypoints, and others with so many channels."""
    generator = torch.Generator().manual_seed(0)
    size = (64 // stride, 96 // stride)
    return Maps(
        stride,
        {
            name: torch.rand(2, count, *size, generator=generator)
            for name, count in {"heatmaps": 14, **channels}.items()
        },
    )


EVERY_HEAD = {"tags": 14, "scale_maps": 14, "log_weight_maps": 14}


def test_panels_grow_with_what_is_given() -> None:
    image, names = grey(), CROWDPOSE.keypoints
    target = MapTargets(4, torch.ones(2, 16, 24, dtype=torch.bool), {"heatmaps": torch.rand(2, 14, 16, 24)})
    alone = map_panels(image, names=names)
    plain = map_panels(image, names=names, output=(_maps(4),))
    everything = map_panels(
        image, names=names, targets=(target,), output=(_maps(4, **EVERY_HEAD), _maps(2, **EVERY_HEAD)),
        index=1, title="two strides", footer="commit",
    )  # fmt: skip
    assert alone.shape[1] < plain.shape[1] < everything.shape[1]
    assert plain.shape[0] < everything.shape[0]
    assert everything.dtype == np.uint8


def test_panels_show_the_chosen_image_of_the_batch() -> None:
    image, names = grey(), CROWDPOSE.keypoints
    first, second = (map_panels(image, names=names, output=(_maps(4),), index=i) for i in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.usefixtures("own_kinds")
def test_every_predicted_map_has_a_panel_at_each_of_its_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    headings: list[str] = []
    add_panel = panels._add_panel

    def listen(figure, heading, *rest) -> None:
        headings.append(heading)
        add_panel(figure, heading, *rest)

    monkeypatch.setattr(panels, "_add_panel", listen)
    output = (_maps(4, tags=14, limbs=5, depth=1), _maps(2, limbs=5))
    drawn = map_panels(grey(), names=CROWDPOSE.keypoints, output=output)
    assert headings == [
        "image",
        *("heatmaps, stride 4", "heatmaps, stride 2"),
        "tags, stride 4",
        *("limbs, stride 4", "limbs, stride 2"),
        "depth, stride 4",
    ]
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1000


def test_a_map_that_is_not_defined_is_named() -> None:
    with pytest.raises(ValueError, match="no map named 'depth' is defined"):
        map_panels(grey(), names=CROWDPOSE.keypoints, output=(_maps(4, depth=1),))
