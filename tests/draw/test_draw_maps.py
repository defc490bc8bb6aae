"""Maps over images and the labelled figure of all of them."""

import numpy as np
import pytest
import torch

from swahr.draw import draw_heatmaps, draw_scale_map, draw_tags, draw_weight_map, map_panels
from swahr.draw.maps import hatch_invalid
from swahr.draw.palette import keypoint_colours
from swahr.skeleton import CROWDPOSE
from swahr.structures import Maps, MapTargets

K = 4


def grey() -> np.ndarray:
    return np.full((64, 96, 3), 120, dtype=np.uint8)


def lit(*spots: tuple[int, int, int]) -> torch.Tensor:
    """Heatmaps of stride 4 with a block of ones around each (keypoint, row, column)."""
    maps = torch.zeros(K, 16, 24)
    for keypoint, row, column in spots:
        maps[keypoint, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    return maps


def test_a_lit_spot_has_its_keypoints_colour_where_it_lies_in_the_image() -> None:
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
    drawn = draw_tags(grey(), tags, heat)
    background = drawn[60, 2]
    first, second = drawn[18, 22], drawn[42, 74]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, background)
    assert np.array_equal(drawn[2, 90], background)


def test_scale_map_diverges_from_white_at_zero() -> None:
    heat = lit((0, 4, 5), (1, 10, 18), (2, 4, 18))
    alpha = torch.zeros(K, 16, 24)
    alpha[0, 3:6, 4:7], alpha[1, 9:12, 17:20] = 0.5, -0.5
    drawn = draw_scale_map(grey(), alpha, heat).astype(int)
    narrowed, widened, plain = drawn[18, 22], drawn[42, 74], drawn[18, 74]
    assert narrowed[0] > narrowed[2]
    assert widened[2] > widened[0]
    assert np.ptp(plain) < 6
    assert plain.min() > 230


def test_weight_map_shows_departures_from_one() -> None:
    log_weight = torch.zeros(K, 16, 24)
    log_weight[1, 4, 5], log_weight[2, 10, 18] = 1.0, -1.0
    drawn = draw_weight_map(grey(), log_weight).astype(int)
    assert drawn[18, 22][0] > drawn[18, 22][2]  # orange
    assert drawn[42, 74][2] > drawn[42, 74][1]  # purple


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_and_empty_maps_are_drawn(value: float) -> None:
    maps = torch.full((K, 16, 24), value)
    nothing = torch.zeros(K, 16, 24)
    for drawn in (
        draw_heatmaps(grey(), maps),
        draw_tags(grey(), maps, nothing),
        draw_scale_map(grey(), maps, nothing),
        draw_weight_map(grey(), maps),
    ):
        assert drawn.shape == (64, 96, 3)


def test_only_what_may_not_be_learned_is_hatched() -> None:
    valid = torch.ones(16, 24, dtype=torch.bool)
    valid[:, :12] = False
    hatched = (hatch_invalid(grey(), valid) != 120).any(-1)
    assert 0.1 < hatched[:, :48].mean() < 0.5
    assert not hatched[:, 48:].any()


def _maps(stride: int, *, every_head: bool) -> Maps:
    shape = (2, 14, 64 // stride, 96 // stride)
    generator = torch.Generator().manual_seed(0)

    def some() -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    extra = (some(), some(), some()) if every_head else (None, None, None)
    return Maps(some(), *extra, stride)


def test_panels_grow_with_what_is_given() -> None:
    image, names = grey(), CROWDPOSE.keypoints
    target = MapTargets(torch.rand(2, 14, 16, 24), torch.ones(2, 16, 24, dtype=torch.bool), 4)
    alone = map_panels(image, names=names)
    plain = map_panels(image, names=names, output=(_maps(4, every_head=False),))
    everything = map_panels(
        image, names=names, targets=(target,), output=(_maps(4, every_head=True), _maps(2, every_head=True)),
        index=1, title="two strides", footer="commit",
    )  # fmt: skip
    assert alone.shape[1] < plain.shape[1] < everything.shape[1]
    assert plain.shape[0] < everything.shape[0]
    assert everything.dtype == np.uint8


def test_panels_show_the_chosen_image_of_the_batch() -> None:
    image, names = grey(), CROWDPOSE.keypoints
    output = (_maps(4, every_head=False),)
    first, second = (map_panels(image, names=names, output=output, index=i) for i in (0, 1))
    assert not np.array_equal(first, second)
