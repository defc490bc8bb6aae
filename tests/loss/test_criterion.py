"""The shipped losses: their values, their gradients and what they need."""

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from reference import losses as reference

from swahr.loss import Criterion
from swahr.nodes import instantiate
from swahr.structures import Maps, Targets

SHIPPED = {
    "mse": ("none", "none"),
    "sahr": ("taylor", "none"),
    "wahr": ("none", "derived"),
    "wahr_learned": ("none", "learned"),
    "swahr": ("taylor", "derived"),
    "swahr_exact": ("exact", "derived"),
    "swahr_learned": ("taylor", "learned"),
}
CHOICES = [
    (target, weight) for target in ("none", "taylor", "exact") for weight in ("none", "derived", "learned")
]


def changed(maps: Maps, **fields: torch.Tensor) -> Maps:
    return replace(maps, fields={**maps.fields, **fields})


def without(maps: Maps, name: str) -> Maps:
    return replace(maps, fields={key: value for key, value in maps.fields.items() if key != name})


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_files_are_the_papers_ablation(repository, criterion, scene, name) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(repository / "conf")):
        shipped = instantiate(compose(overrides=[f"+loss={name}", "loss.terms.tags.closeness=gaussian"]).loss)
    assert isinstance(shipped, Criterion)
    expected = criterion(*SHIPPED[name])(*scene())
    terms = shipped(*scene())
    assert terms.keys() == expected.keys()
    assert all(torch.equal(term, expected[key]) for key, term in terms.items())


def test_every_shipped_loss_is_known_here(repository) -> None:
    others = {"person", "pixel_classification"}  # of the second stage, with tests of their own
    assert {path.stem for path in (repository / "conf" / "loss").glob("*.yaml")} == SHIPPED.keys() | others


@pytest.mark.parametrize("choice", CHOICES)
def test_heatmap_term_equals_the_slow_reference(criterion, scene, choice) -> None:
    output, targets = scene()
    terms = criterion(*choice, heatmap=3.0)(output, targets)
    maps, target = output[0], targets.maps[0]
    expected = 3 * reference.heatmap_loss(
        maps.heatmaps,
        target.heatmaps,
        target.valid,
        form=choice[0],
        weight=choice[1],
        scale_maps=maps.scale_maps,
        log_weight_maps=maps.log_weight_maps,
    )
    torch.testing.assert_close(terms["heatmap_4"], expected)
    leaves = [maps.heatmaps, maps.scale_maps, maps.log_weight_maps]
    ours = torch.autograd.grad(terms["heatmap_4"].sum(), leaves, allow_unused=True, materialize_grads=True)
    slow = torch.autograd.grad(expected.sum(), leaves, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(ours, slow)


@pytest.mark.parametrize("choice", CHOICES)
def test_terms_are_named_and_per_image(criterion, scene, choice) -> None:
    made = criterion(*choice)
    names = {"heatmap_4", "heatmap_2", "tags_pull", "tags_push"}
    names |= {"scale_map_4", "scale_map_2"} if choice[0] != "none" else set()
    names |= {"weight_map_4", "weight_map_2"} if choice[1] == "learned" else set()
    terms = made(*scene())
    assert terms.keys() == names
    assert all(term.shape == (2,) for term in terms.values())
    needs = {"heatmaps", "tags"}
    needs |= {"scale_maps"} if choice[0] != "none" else set()
    needs |= {"log_weight_maps"} if choice[1] == "learned" else set()
    assert made.needs == needs


@pytest.mark.parametrize("choice", CHOICES)
def test_invalid_pixels_give_no_gradient(criterion, scene, choice) -> None:
    output, targets = scene()
    terms = criterion(*choice)(output, replace(targets, tag_index=targets.tag_index * 0 - 1))
    sum(term.sum() for term in terms.values()).backward()
    for maps, target in zip(output, targets.maps, strict=True):
        for leaf in (maps.heatmaps, maps.scale_maps, maps.log_weight_maps):
            if leaf.grad is not None:
                assert not leaf.grad.movedim(1, -1)[~target.valid].any()
        assert maps.heatmaps.grad.movedim(1, -1)[target.valid].all()


@pytest.mark.parametrize("target", ["taylor", "exact"])
def test_the_scale_map_learns_on_the_targets_support_only(criterion, scene, target) -> None:
    output, targets = scene()
    terms = criterion(target, "derived")(output, targets)
    sum(term.sum() for term in terms.values()).backward()
    for maps, target_maps in zip(output, targets.maps, strict=True):
        support = (target_maps.heatmaps > 0) & target_maps.valid.unsqueeze(1)
        assert torch.equal(maps.scale_maps.grad != 0, support)


def test_neutral_maps_give_the_plain_loss(criterion, scene) -> None:
    output, targets = scene()
    zeros = [torch.zeros_like(maps.heatmaps) for maps in output]
    neutral = tuple(
        changed(maps, scale_maps=zero, log_weight_maps=zero) for maps, zero in zip(output, zeros, strict=True)
    )
    plain = criterion()(output, targets)
    for target in ("none", "taylor", "exact"):
        terms = criterion(target, "learned")(neutral, targets)
        for name, term in terms.items():
            torch.testing.assert_close(term, plain.get(name, torch.zeros_like(term)))


def test_regulariser_of_the_scale_map(criterion, scene) -> None:
    output, targets = scene()
    terms = criterion("taylor", scale_map=2.0)(output, targets)
    maps, target = output[1], targets.maps[1]
    expected = 2 * reference.scale_map_penalty(maps.scale_maps, target.heatmaps, target.valid)
    torch.testing.assert_close(terms["scale_map_2"], expected)


def test_every_term_scales_with_its_factor(criterion, scene) -> None:
    once = criterion("exact", "learned")
    doubled = criterion(
        "exact", "learned", heatmap=2.0, scale_map=2.0, weight_map=2.0, pull=0.002, push=0.002
    )
    output, targets = scene()
    for name, term in once(output, targets).items():
        torch.testing.assert_close(doubled(output, targets)[name], 2 * term)


@pytest.mark.parametrize("people", [0, 1, 40])
def test_any_number_of_people(criterion, scene, people) -> None:
    output, targets = scene(people=people)
    terms = criterion("taylor", "derived")(output, targets)
    sum(term.sum() for term in terms.values()).backward()
    assert all(term.isfinite().all() for term in terms.values())
    assert (terms["tags_push"] > 0).all() == (people > 1)


def test_half_precision_output_is_widened_first(criterion, scene) -> None:
    output, targets = scene(dtype=torch.bfloat16)
    wide = tuple(
        replace(maps, fields={name: values.float() for name, values in maps.fields.items()})
        for maps in output
    )
    made = criterion("exact", "learned")
    expected = made(wide, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = made(output, targets)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, expected[name])


def test_memory_layout_changes_nothing(criterion, scene) -> None:
    output, targets = scene(dtype=torch.float32)
    made = criterion("taylor", "derived")
    swapped = tuple(
        changed(maps, heatmaps=maps.heatmaps.to(memory_format=torch.channels_last)) for maps in output
    )
    for name, term in made(swapped, targets).items():
        assert torch.equal(term, made(output, targets)[name])


@pytest.mark.parametrize(
    ("name", "choice"),
    [("scale_maps", ("taylor", "none")), ("log_weight_maps", ("none", "learned")), ("tags", ())],
)
def test_a_needed_map_that_is_missing_is_named(criterion, scene, name, choice) -> None:
    output, targets = scene()
    with pytest.raises(ValueError, match=rf"needs the maps \['{name}'\], which the network does not predict"):
        criterion(*choice)((without(output[0], name), output[1]), targets)


def test_targets_of_other_strides_are_refused(criterion, scene) -> None:
    output, targets = scene()
    with pytest.raises(ValueError, match="expected targets of the network's strides"):
        criterion()(output[:1], targets)
    with pytest.raises(ValueError, match="expected targets of the network's strides"):
        criterion()(output, Targets(targets.maps[::-1], targets.tag_index))
