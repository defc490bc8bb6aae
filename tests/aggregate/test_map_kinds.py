"""What a map's name implies: how it is mirrored and merged, also for maps of one's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from swahr import map_kinds
from swahr.aggregate import Aggregator
from swahr.map_kinds import (
    HEATMAPS,
    LOG_WEIGHT_MAPS,
    OCCLUSION,
    SCALE_MAPS,
    TAGS,
    MapKind,
    Strides,
    define_map,
    map_kind,
    mirror_columns,
)
from swahr.skeleton import COCO
from swahr.structures import DenseMaps, Maps, NetworkOutput

CPU = torch.device("cpu")
LEFT, RIGHT = 0, 1


@pytest.fixture(autouse=True)
def _own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds that a test defines are forgotten after it."""
    monkeypatch.setattr(map_kinds, "_KINDS", dict(map_kinds._KINDS))


def aggregate(network, **settings) -> DenseMaps:
    image = np.zeros((64, 128, 3), np.uint8)
    return Aggregator((RIGHT, LEFT), **({"input_size": 64} | settings))(network, [image], CPU)


class Scripted:
    """A "network" whose first view is the input and whose second is the mirror image, at strides 4 and 2.

    Its map ``depth`` has one channel that is ``base``, plus 1 at stride 2, plus 10 in the second view, plus
    100 where the input is larger than that of test scale 1.
    """

    def __init__(self, base: float = 1.0) -> None:
        self.base = base
        self.seen: dict[int, int] = {}

    def __call__(self, images: Tensor) -> NetworkOutput:
        h, w = images.shape[2:]
        mirrored = self.seen.get(h, 0)
        self.seen[h] = mirrored + 1
        value = self.base + 10 * mirrored + 100 * (h > 64)
        return tuple(
            Maps(
                stride,
                {
                    "heatmaps": torch.zeros(1, 2, h // stride, w // stride),
                    "depth": torch.full((1, 1, h // stride, w // stride), value + (stride == 2)),
                },
            )
            for stride in (4, 2)
        )


def test_another_kind_under_a_known_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'heatmaps' is already defined"):
        define_map(replace(HEATMAPS, title="other"))
    assert map_kind("heatmaps") is HEATMAPS


def test_the_same_kind_may_be_defined_again() -> None:
    depth = define_map(MapKind("depth", "depth"))
    assert define_map(MapKind("depth", "depth")) == depth
    assert map_kind("depth") is depth


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="no map named 'depth' is defined, but heatmaps, tags, scale_maps"):
        map_kind("depth")


@pytest.mark.parametrize(
    "kind", [HEATMAPS, TAGS, SCALE_MAPS, LOG_WEIGHT_MAPS, OCCLUSION], ids=lambda kind: kind.name
)
def test_mirrored_twice_is_as_before(kind) -> None:
    maps = torch.rand(2, 17, 5, 7)
    once = kind.mirror(maps, COCO.flip_permutation)
    assert not torch.equal(once, maps)
    assert torch.equal(kind.mirror(once, COCO.flip_permutation), maps)


def test_maps_whose_channels_are_not_keypoints_keep_their_order() -> None:
    maps = torch.rand(2, 3, 5, 7)
    assert torch.equal(mirror_columns(maps, COCO.flip_permutation), maps.flip(3))


def test_strides_are_selected_from_coarse_to_fine() -> None:
    assert [list(strides.select([4, 2, 1])) for strides in Strides] == [[4, 2, 1], [4], [1]]
    assert [list(strides.select([4])) for strides in Strides] == [[4], [4], [4]]


def test_convention_a_mirrored_tag_is_swapped() -> None:
    """What the mirror image shows left at column x is the right keypoint, as far from the other border."""
    views = iter([False, True])

    def network(images: Tensor) -> NetworkOutput:
        tags = torch.zeros(1, 2, 16, 32)
        if next(views):
            tags[0, LEFT, 5, 3] = 7.0
        return (Maps(4, {"heatmaps": torch.zeros_like(tags), "tags": tags}),)

    tags = aggregate(network).tags
    assert tags.shape == (1, 2, 16, 32, 2)
    assert tags.nonzero().tolist() == [[0, RIGHT, 5, 32 - 1 - 3, 1]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (MapKind("depth", ""), [1.5 + 5]),
        (MapKind("depth", "", strides=Strides.COARSEST), [1 + 5]),
        (MapKind("depth", "", strides=Strides.FINEST), [2 + 5]),
        (MapKind("depth", "", average_test_scales=True), [1.5 + 5 + 50]),
        (MapKind("depth", "", strides=Strides.FINEST, stack_flips=True), [2, 12]),
    ],
)
@pytest.mark.parametrize("project", [False, True])
def test_a_custom_map_is_merged_by_the_rules_of_its_kind(kind, expected, project) -> None:
    define_map(replace(kind, mirror=mirror_columns))
    depth = aggregate(Scripted(), test_scales=(1.0, 2.0), project=project).fields["depth"]
    size = (64, 128) if project else (32, 64)
    assert depth.shape == ((1, 1, *size, 2) if kind.stack_flips else (1, 1, *size))
    assert torch.equal(depth, torch.tensor(expected).expand(*depth.shape[:4], len(expected)).view_as(depth))


def test_a_custom_map_is_mirrored_by_the_rule_of_its_kind() -> None:
    """Such as one that points to the right, and so to the left in the mirror image."""
    define_map(MapKind("depth", "", strides=Strides.FINEST, mirror=lambda maps, _: -maps.flip(3)))
    assert (aggregate(Scripted()).fields["depth"] == (2 - 12) / 2).all()


def test_a_map_that_is_not_defined_is_named() -> None:
    with pytest.raises(ValueError, match="no map named 'depth' is defined"):
        aggregate(Scripted())
