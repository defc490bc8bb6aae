"""The kinds of maps: how the maps of each name are mirrored, merged and drawn.

Aggregation, export and drawing loop over a network's maps and look up their kinds by name. Custom heads
register theirs with `define_map` (see docs/extending.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

Mirror = Callable[[Float[Tensor, "b c h w"], Sequence[int]], Float[Tensor, "b c h w"]]

T = TypeVar("T")


class Strides(Enum):
    """The strides over which a map is averaged, at the size of the finest."""

    ALL = "all"
    COARSEST = "coarsest"
    FINEST = "finest"

    def select(self, maps: Sequence[T]) -> Sequence[T]:
        """The selected elements of ``maps``, which are ordered coarse to fine."""
        return {Strides.ALL: maps, Strides.COARSEST: maps[:1], Strides.FINEST: maps[-1:]}[self]


def mirror_keypoints(
    maps: Float[Tensor, "b k h w *t"], flip_permutation: Sequence[int]
) -> Float[Tensor, "b k h w *t"]:
    """Maps of a flipped input (heatmaps, tags, …) mirrored back: columns reversed, left and right swapped."""
    return maps.flip(3)[:, list(flip_permutation)]


def mirror_columns(maps: Float[Tensor, "b c h w"], _: Sequence[int]) -> Float[Tensor, "b c h w"]:
    """As `mirror_keypoints`, for channels that are not keypoints: reverse columns only."""
    return maps.flip(3)


@dataclass(frozen=True)
class MapKind:
    """How maps of one name are merged and drawn.

    Attributes:
        name: the key in `swahr.structures.Maps` and in exported files.
        title: panel title in drawings.
        mirror: reverts the flip of the input, given the maps and the skeleton's flip permutation.
        strides: the strides to average.
        stack_flips: stack the maps of the input and its mirror image in a last dimension ``t`` instead of
            averaging them.
        average_test_scales: average over test scales; otherwise only test scale 1 is used.
        colours: matplotlib colour map; None draws each keypoint in its hue, with the value as opacity.
        symmetric: whether colour limits are symmetric about 0.
        at_keypoints: whether to draw the map only where heatmaps are high.
    """

    name: str
    title: str
    mirror: Mirror = mirror_keypoints
    strides: Strides = Strides.ALL
    stack_flips: bool = False
    average_test_scales: bool = False
    colours: str | None = "viridis"
    symmetric: bool = False
    at_keypoints: bool = True


_KINDS: dict[str, MapKind] = {}


def define_map(kind: MapKind) -> MapKind:
    """Register a kind and return it; raises ValueError if its name belongs to another kind."""
    known = _KINDS.setdefault(kind.name, kind)
    if replace(known, mirror=kind.mirror) != kind:  # a notebook's cell defines its function anew
        raise ValueError(f"a map named '{kind.name}' is already defined as {_KINDS[kind.name]}; rename yours")
    return kind


def map_kind(name: str) -> MapKind:
    """The registered kind of this name; raises ValueError if there is none."""
    if name not in _KINDS:
        raise ValueError(
            f"no map named '{name}' is defined, but {', '.join(_KINDS)}; define it beside its head with "
            "swahr.map_kinds.define_map"
        )
    return _KINDS[name]


HEATMAPS = define_map(MapKind("heatmaps", "heatmaps", average_test_scales=True, colours=None))
TAGS = define_map(
    MapKind("tags", "tags", mirror_keypoints, strides=Strides.COARSEST, stack_flips=True, colours="turbo")
)
_signed = partial(MapKind, strides=Strides.FINEST, symmetric=True)
# Default decoding does not read scale and weight maps; decode=dark_scale_map reads the former.
SCALE_MAPS = define_map(_signed("scale_maps", r"scale map $\alpha$", colours="RdBu_r"))
LOG_WEIGHT_MAPS = define_map(
    _signed("log_weight_maps", "weight map (log)", colours="PuOr_r", at_keypoints=False)
)
# Merged as heatmaps, with which decoding compares them.
OCCLUSION = define_map(MapKind("occlusion", "occlusion", average_test_scales=True, colours=None))
