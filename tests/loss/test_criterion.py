from dataclasses import replace

import pytest
import torch
import yaml

from swahr.structures import Targets

ABLATION = {
    "mse": ("none", "none"),
    "sahr": ("taylor", "none"),
    "wahr": ("none", "derived"),
    "swahr": ("taylor", "derived"),
}
CHOICES = [
    (target, weight) for target in ("none", "taylor", "exact") for weight in ("none", "derived", "learned")
]


def slow_heatmap_loss(predictions, target, valid, scale_map, weight_map, choice, gamma=0.01):
    """One image, pixel by pixel, as the formulas read."""
    total = predictions.sum() * 0
    keypoints, height, width = predictions.shape
    for k in range(keypoints):
        for y in range(height):
            for x in range(width):
                if not valid[y, x]:
                    continue
                p, h = predictions[k, y, x], target[k, y, x]
                adapted = h
                if choice[0] != "none" and h > 0:
                    e = scale_map[k, y, x] * h.log()
                    taylor = h * (1 + e + e**2 / 2)
                    adapted = (
                        taylor if choice[0] == "taylor" else h ** (1 + scale_map[k, y, x]).clamp(min=0.01)
                    )
                weight = torch.ones_like(p)
                if choice[1] == "derived":
                    weight = (1 - p).abs() * h**gamma + p.abs() * (1 - h**gamma)
                if choice[1] == "learned":
                    weight = weight_map[k, y, x].exp()
                total = total + weight * (p - adapted) ** 2
    return total / predictions.numel()


@pytest.mark.parametrize("name", ABLATION)
def test_the_shipped_files_are_the_papers_ablation(repository, criterion, name) -> None:
    values = yaml.safe_load((repository / "conf" / "loss" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert values.pop("_target_") == "swahr.loss.Criterion"
    scale_target, weight = ABLATION[name]
    assert criterion(**values) == criterion(scale_target=scale_target, weight=weight)


@pytest.mark.parametrize("choice", CHOICES)
def test_heatmap_term_equals_the_slow_reference(criterion, scene, choice) -> None:
    output, targets = scene()
    terms = criterion(scale_target=choice[0], weight=choice[1], heatmap_weight=3.0)(output, targets)
    maps, target = output[0], targets.maps[0]
    fields = (maps.heatmaps, target.heatmaps.double(), target.valid, maps.scales, maps.weights)
    expected = 3 * torch.stack([slow_heatmap_loss(*image, choice) for image in zip(*fields, strict=True)])
    torch.testing.assert_close(terms["heatmap_4"], expected)
    leaves = [maps.heatmaps, maps.scales, maps.weights]
    ours = torch.autograd.grad(terms["heatmap_4"].sum(), leaves, allow_unused=True, materialize_grads=True)
    slow = torch.autograd.grad(expected.sum(), leaves, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(ours, slow)


@pytest.mark.parametrize("choice", CHOICES)
def test_terms_are_named_and_per_image(criterion, scene, choice) -> None:
    made = criterion(scale_target=choice[0], weight=choice[1])
    names = {"heatmap_4", "heatmap_2", "pull", "push"}
    names |= {"scale_map_4", "scale_map_2"} if choice[0] != "none" else set()
    names |= {"weight_map_4", "weight_map_2"} if choice[1] == "learned" else set()
    terms = made(*scene())
    assert terms.keys() == names
    assert all(term.shape == (2,) for term in terms.values())
    assert made.needs_scale_maps == (choice[0] != "none")
    assert made.needs_weight_maps == (choice[1] == "learned")


@pytest.mark.parametrize("choice", CHOICES)
def test_invalid_pixels_give_no_gradient(criterion, scene, choice) -> None:
    output, targets = scene()
    terms = criterion(scale_target=choice[0], weight=choice[1])(
        output, replace(targets, tag_index=targets.tag_index * 0 - 1)
    )
    sum(term.sum() for term in terms.values()).backward()
    for maps, target in zip(output, targets.maps, strict=True):
        for leaf in (maps.heatmaps, maps.scales, maps.weights):
            if leaf.grad is not None:
                assert not leaf.grad.movedim(1, -1)[~target.valid].any()
        assert maps.heatmaps.grad.movedim(1, -1)[target.valid].all()


@pytest.mark.parametrize("scale_target", ["taylor", "exact"])
def test_the_scale_map_learns_on_the_targets_support_only(criterion, scene, scale_target) -> None:
    output, targets = scene()
    terms = criterion(scale_target=scale_target, weight="derived")(output, targets)
    sum(term.sum() for term in terms.values()).backward()
    for maps, target in zip(output, targets.maps, strict=True):
        support = (target.heatmaps > 0) & target.valid.unsqueeze(1)
        assert torch.equal(maps.scales.grad != 0, support)


def test_neutral_maps_give_the_plain_loss(criterion, scene) -> None:
    output, targets = scene()
    zeros = [torch.zeros_like(maps.heatmaps) for maps in output]
    neutral = tuple(replace(m, scales=z, weights=z) for m, z in zip(output, zeros, strict=True))
    plain = criterion()(output, targets)
    for scale_target in ("none", "taylor", "exact"):
        terms = criterion(scale_target=scale_target, weight="learned")(neutral, targets)
        for name, term in terms.items():
            torch.testing.assert_close(term, plain.get(name, torch.zeros_like(term)))


def test_regulariser_of_the_scale_map(criterion, scene) -> None:
    output, targets = scene()
    terms = criterion(scale_target="taylor", scale_map_weight=2.0)(output, targets)
    maps, target = output[1], targets.maps[1]
    counted = (target.heatmaps > 0) & target.valid.unsqueeze(1)
    expected = 2 * (maps.scales.square() * counted).sum(dim=(1, 2, 3)) / maps.scales[0].numel()
    torch.testing.assert_close(terms["scale_map_2"], expected)


def test_every_term_scales_with_its_factor(criterion, scene) -> None:
    once = criterion(scale_target="exact", weight="learned")
    doubled = replace(once, **{f"{name}_weight": 2 * getattr(once, f"{name}_weight") for name in FACTORS})
    output, targets = scene()
    for name, term in once(output, targets).items():
        torch.testing.assert_close(doubled(output, targets)[name], 2 * term)


FACTORS = ("heatmap", "scale_map", "weight_map", "pull", "push")


@pytest.mark.parametrize("people", [0, 1, 40])
def test_any_number_of_people(criterion, scene, people) -> None:
    output, targets = scene(people=people)
    terms = criterion(scale_target="taylor", weight="derived")(output, targets)
    sum(term.sum() for term in terms.values()).backward()
    assert all(term.isfinite().all() for term in terms.values())
    assert (terms["push"] > 0).all() == (people > 1)


def test_half_precision_output_is_widened_first(criterion, scene) -> None:
    output, targets = scene(dtype=torch.bfloat16)
    wide = tuple(
        replace(
            m,
            **{
                f: v.float()
                for f in ("heatmaps", "tags", "scales", "weights")
                if (v := getattr(m, f)) is not None
            },
        )
        for m in output
    )
    made = criterion(scale_target="exact", weight="learned")
    expected = made(wide, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = made(output, targets)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, expected[name])


def test_memory_layout_changes_nothing(criterion, scene) -> None:
    output, targets = scene(dtype=torch.float32)
    made = criterion(scale_target="taylor", weight="derived")
    swapped = tuple(replace(m, heatmaps=m.heatmaps.to(memory_format=torch.channels_last)) for m in output)
    for name, term in made(swapped, targets).items():
        assert torch.equal(term, made(output, targets)[name])


@pytest.mark.parametrize(
    ("field", "changes", "name"),
    [
        ("scales", {"scale_target": "taylor"}, "scale maps at stride 4"),
        ("weights", {"weight": "learned"}, "weight maps at stride 4"),
        ("tags", {}, "tag maps at stride 4"),
    ],
)
def test_a_needed_map_that_is_missing_is_named(criterion, scene, field, changes, name) -> None:
    output, targets = scene()
    with pytest.raises(ValueError, match=f"needs {name}, but the network predicts none"):
        criterion(**changes)((replace(output[0], **{field: None}), output[1]), targets)


def test_targets_of_other_strides_are_refused(criterion, scene) -> None:
    output, targets = scene()
    with pytest.raises(ValueError, match="expected targets of the network's strides"):
        criterion()(output[:1], targets)
    with pytest.raises(ValueError, match="expected targets of the network's strides"):
        criterion()(output, Targets(targets.maps[::-1], targets.tag_index))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 0.0}, "positive exponent"),
        ({"weight": "learned", "weight_map_weight": 0.0}, "would shrink to 0"),
    ],
)
def test_senseless_settings_are_refused(criterion, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        criterion(**changes)
