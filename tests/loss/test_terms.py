"""Terms one by one: combined freely, checked numerically, and subclassed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from swahr.loss import (
    Criterion,
    DerivedWeight,
    ExactTarget,
    HeatmapRegression,
    LearnedWeight,
    MapRegression,
    ScaleMapPenalty,
    StrideTerm,
    TagLoss,
    TaylorTarget,
    Term,
    WeightMapPenalty,
)
from swahr.structures import Maps, MapTargets, NetworkOutput, Targets

SHIPPED: dict[str, Callable[[], Term]] = {
    "heatmaps": HeatmapRegression,
    "taylor": lambda: HeatmapRegression(adaptation=TaylorTarget()),
    "exact": lambda: HeatmapRegression(adaptation=ExactTarget()),
    "derived": lambda: HeatmapRegression(pixel_weight=DerivedWeight()),
    "learned": lambda: HeatmapRegression(pixel_weight=LearnedWeight()),
    "all": lambda: HeatmapRegression(adaptation=TaylorTarget(), pixel_weight=DerivedWeight()),
    "scale map": ScaleMapPenalty,
    "weight map": WeightMapPenalty,
    "tags": TagLoss,
    "map": lambda: MapRegression("log_weight_maps"),
}
NEEDS = {
    "heatmaps": {"heatmaps"},
    "taylor": {"heatmaps", "scale_maps"},
    "exact": {"heatmaps", "scale_maps"},
    "derived": {"heatmaps"},
    "learned": {"heatmaps", "log_weight_maps"},
    "all": {"heatmaps", "scale_maps"},
    "scale map": {"scale_maps"},
    "weight map": {"log_weight_maps"},
    "tags": {"tags"},
    "map": {"log_weight_maps"},
}


class Count(Term):
    """A term of one's own without values per stride."""

    def forward(self, output: NetworkOutput, targets: Targets) -> dict[str, torch.Tensor]:
        people = (targets.tag_index >= 0).any(dim=2).sum(dim=1)
        return {"": self.weight * people, "strides": torch.full((len(people),), float(len(output)))}


class Brightness(StrideTerm):
    """A term of one's own with a value per stride."""

    needs = frozenset({"heatmaps"})

    def at_stride(self, maps: Maps, target: MapTargets) -> torch.Tensor:
        return maps.heatmaps.mean(dim=(1, 2, 3))


def with_targets(targets: Targets, **fields: torch.Tensor) -> Targets:
    """With further fields at the coarsest stride."""
    coarse, *finer = targets.maps
    return replace(targets, maps=(replace(coarse, fields={**coarse.fields, **fields}), *finer))


@pytest.mark.parametrize("name", SHIPPED)
def test_gradcheck_of_every_term(scene, name) -> None:
    term = SHIPPED[name]()
    (coarse, _), targets = scene(size=3)
    targets = with_targets(targets, log_weight_maps=torch.rand(2, 3, 3, 3, dtype=torch.float64))
    targets = replace(targets, maps=targets.maps[:1])
    names = sorted(term.needs)

    def values(*maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fields = {**coarse.fields, **dict(zip(names, maps, strict=True))}
        return tuple(term((replace(coarse, fields=fields),), targets).values())

    assert torch.autograd.gradcheck(values, [coarse.fields[name] for name in names])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_term_names_the_maps_it_needs(name) -> None:
    assert SHIPPED[name]().needs == NEEDS[name]


@pytest.mark.parametrize("name", ["heatmaps", "taylor", "derived", "scale map", "weight map", "tags"])
def test_a_term_by_itself_reads_what_it_needs_and_no_more(scene, name) -> None:
    output, targets = scene()
    needed = {"heatmaps", *NEEDS[name]}  # every network predicts heatmaps
    few = tuple(
        replace(maps, fields={key: value for key, value in maps.fields.items() if key in needed})
        for maps in output
    )
    alone = Criterion({"mine": SHIPPED[name]()})
    values, expected = alone(few, targets), alone(output, targets)
    assert values.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in values.items())


def test_a_criterion_of_some_terms_gives_their_values_only(scene) -> None:
    made = Criterion({"pose": HeatmapRegression(weight=2.0), "scale": ScaleMapPenalty()})
    terms = made(*scene())
    assert terms.keys() == {"pose_4", "pose_2", "scale_4", "scale_2"}
    assert made.needs == {"heatmaps", "scale_maps"}
    plain = Criterion({"pose": HeatmapRegression()})(*scene())
    torch.testing.assert_close(terms["pose_2"], 2 * plain["pose_2"])


def test_a_stride_without_the_needed_map_is_left_out(scene) -> None:
    """Tags are predicted at the coarsest stride only; any map of a head of one's own may be, too."""
    output, targets = scene()
    targets = with_targets(targets, tags=torch.zeros(2, 3, 8, 8))
    terms = Criterion({"tag_values": MapRegression("tags")})(output, targets)
    assert terms.keys() == {"tag_values_4"}
    expected = (output[0].tags.square() * targets.maps[0].valid.unsqueeze(1)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(terms["tag_values_4"], expected)


def test_a_term_of_ones_own_is_called_with_its_name(scene) -> None:
    output, targets = scene(people=5)
    terms = Criterion({"count": Count(weight=3.0), "bright": Brightness(weight=0.5)})(output, targets)
    assert terms.keys() == {"count", "count_strides", "bright_4", "bright_2"}
    assert terms["count"].tolist() == [15, 15]
    assert terms["count_strides"].tolist() == [2, 2]
    torch.testing.assert_close(terms["bright_2"], output[1].heatmaps.mean(dim=(1, 2, 3)) / 2)


def test_a_term_of_ones_own_gets_bfloat16_maps_in_float32(scene) -> None:
    output, targets = scene(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = Criterion({"bright": Brightness()})(output, targets)
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert torch.equal(terms["bright_4"], output[0].heatmaps.float().mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("penalties", [{}, {"weight_map": WeightMapPenalty(weight=0.0)}])
def test_a_learned_weight_without_its_penalty_is_refused(penalties) -> None:
    with pytest.raises(ValueError, match="would shrink to 0"):
        Criterion({"heatmap": HeatmapRegression(pixel_weight=LearnedWeight()), **penalties})


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="positive exponent"):
        DerivedWeight(gamma=0.0)
    with pytest.raises(ValueError, match="at least one term"):
        Criterion({})
