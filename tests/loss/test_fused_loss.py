"""What a CPU runs equals the formulas that GPUs run, in values and gradients, however it is asked.

The formulas are in float64: only the loop's rounding is left of the difference.
"""

import math
from dataclasses import replace

import pytest
import torch

from swahr.loss import fused
from swahr.structures import Maps, MapTargets

CHOICES = [(target, weight) for target in ("none", "taylor", "exact") for weight in ("none", "derived")]


@pytest.fixture
def narrow(scene):
    """A scene in float32; nothing is masked in one image of one stride."""
    output, targets = scene(dtype=torch.float32)
    valid = targets.maps[1].valid.clone()
    valid[0] = True
    return output, replace(targets, maps=(targets.maps[0], replace(targets.maps[1], valid=valid)))


def leaves_of(output, *, scales: bool):
    return [m for maps in output for m in ((maps.heatmaps, maps.scales) if scales else (maps.heatmaps,))]


def widened(output):
    """The same numbers as leaves in float64."""
    wide = [
        {name: getattr(m, name).detach().double().requires_grad_() for name in ("heatmaps", "scales")}
        for m in output
    ]
    return tuple(replace(m, **fields) for m, fields in zip(output, wide, strict=True))


def dense_terms(made, output, targets):
    terms = {}
    for maps, target in zip(output, targets.maps, strict=True):
        terms |= made._dense_terms(maps, target)
    return terms


def weighed(terms):
    """A sum in which every term of every image counts differently."""
    generator = torch.Generator().manual_seed(1)
    return sum((values * torch.randn(len(values), generator=generator)).sum() for values in terms.values())


REDUCTIONS = {
    "usual": lambda terms: sum(values.mean() for values in terms.values()),
    "accumulated": lambda terms: sum(values.mean() / 3 for values in terms.values()),
    "weighed": weighed,
}


def assert_close(ours, expected) -> None:
    """To 1e-6 of the largest entry of each."""
    for found, wanted in zip(ours, expected, strict=True):
        atol = 1e-6 * wanted.abs().max().item()
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=atol)


def assert_equals_the_dense_form(made, output, targets, reduce) -> None:
    scales, wide = made.needs_scale_maps, widened(output)
    terms, dense = made(output, targets), dense_terms(made, wide, targets)
    assert_close((terms[name] for name in dense), dense.values())
    ours, expected = (
        torch.autograd.grad(reduce({name: t[name] for name in dense}), leaves_of(maps, scales=scales))
        for t, maps in ((terms, output), (dense, wide))
    )
    assert_close(ours, expected)


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("choice", CHOICES)
def test_equals_the_dense_form(criterion, narrow, choice, reduce) -> None:
    made = criterion(scale_target=choice[0], weight=choice[1], heatmap_weight=3.0, scale_map_weight=0.5)
    assert_equals_the_dense_form(made, *narrow, REDUCTIONS[reduce])


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_of_the_dense_form(criterion, scene, choice) -> None:
    made = criterion(scale_target=choice[0], weight=choice[1], heatmap_weight=3.0, scale_map_weight=0.5)
    (maps, _), targets = scene()
    h, valid = targets.maps[0].heatmaps[:, :2, :3, :4], targets.maps[0].valid[:, :3, :4]
    x, a = (m[:, :2, :3, :4].detach().requires_grad_() for m in (maps.heatmaps, maps.scales))

    def terms(x, a):
        return tuple(made._dense_terms(Maps(x, None, a, None, 4), MapTargets(h, valid, 4)).values())

    assert torch.autograd.gradcheck(terms, (x, a))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 5, 3, 7), (3, 1, 7, 2), (2, 17, 1, 33), (0, 3, 4, 4)])
def test_maps_of_any_size(shape) -> None:
    generator = torch.Generator().manual_seed(0)
    x, a = (torch.randn(shape, generator=generator).requires_grad_() for _ in range(2))
    h = (torch.rand(shape, generator=generator) * 2 - 0.5).clamp(0, 1)
    loss = fused.FusedHeatmapLoss("taylor", 0.01, error_factor=1.0, regulariser_factor=1.0)
    valid = torch.ones(shape[0], *shape[2:], dtype=torch.bool)
    error, regulariser = loss(x, a, h, valid)
    gradients = torch.autograd.grad(error.mean() + regulariser.mean(), (x, a))
    assert [g.shape for g in gradients] == [shape, shape]
    alone = [loss(*(m[i : i + 1] for m in (x, a, h, valid))) for i in range(shape[0])]
    assert error.tolist() == [terms[0].item() for terms in alone]
    assert not gradients[1][h == 0].any()


@pytest.mark.parametrize("choice", CHOICES)
def test_targets_of_every_size_of_number(criterion, choice) -> None:
    """Down to the smallest normal one, and beyond any peak."""
    h = torch.exp2(torch.linspace(-126, 1, 4 * 16 * 16)).view(1, 4, 16, 16)
    target = MapTargets(h, torch.ones(1, 16, 16, dtype=torch.bool), 4)
    generator = torch.Generator().manual_seed(0)
    x, a = (torch.randn(h.shape, generator=generator) for _ in range(2))
    made = criterion(scale_target=choice[0], weight=choice[1])
    ours, dense = (
        made._map_terms(Maps(m[0], None, m[1], None, 4), target) for m in ((x, a), (x.double(), a.double()))
    )
    assert_close((ours[name] for name in dense), dense.values())


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_predicted_where_nothing_is_learned_is_not_read(criterion, narrow, choice, nonsense) -> None:
    output, targets = narrow
    made = criterion(scale_target=choice[0], weight=choice[1])
    results = []
    for value in (0.0, nonsense):
        spoilt = []
        for maps, target in zip(output, targets.maps, strict=True):
            masked = ~target.valid[:, None]
            fields = {n: getattr(maps, n).detach().masked_fill(masked, value) for n in ("heatmaps", "scales")}
            spoilt.append(replace(maps, **{n: m.requires_grad_() for n, m in fields.items()}))
        terms = made(tuple(spoilt), targets)
        total = sum(v.mean() for name, v in terms.items() if "_" in name)
        gradients = torch.autograd.grad(total, leaves_of(spoilt, scales=made.needs_scale_maps))
        results.append([total, *gradients])
    for expected, found in zip(*results, strict=True):
        assert torch.equal(expected, found)


def test_nonsense_where_something_is_learned_is_told(criterion, narrow) -> None:
    output, targets = narrow
    for value in (math.nan, math.inf):
        wrong = replace(output[0], heatmaps=torch.full_like(output[0].heatmaps, value))
        term = criterion(scale_target="exact", weight="derived")((wrong, output[1]), targets)["heatmap_4"]
        assert not term.isfinite().any()


def test_the_same_to_the_bit_on_any_number_of_threads(criterion, narrow) -> None:
    output, targets = narrow
    made = criterion(scale_target="taylor", weight="derived")
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        terms = made(output, targets)
        total = sum(values.mean() for values in terms.values())
        results.append([total, *torch.autograd.grad(total, leaves_of(output, scales=True))])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(("reduce", "visits"), [("usual", 2), ("accumulated", 2), ("weighed", 4)])
def test_gradients_are_made_with_the_terms(criterion, narrow, monkeypatch, reduce, visits) -> None:
    """Of two strides; a second time only if images or terms count differently."""
    evaluate, calls = fused._evaluate, []
    monkeypatch.setattr(fused, "_evaluate", lambda *a, **k: calls.append(a) or evaluate(*a, **k))
    output, targets = narrow
    terms = criterion(scale_target="taylor", weight="derived")(output, targets)
    REDUCTIONS[reduce](terms).backward()
    assert len(calls) == visits


def test_gradients_can_be_asked_for_again_and_written_on(criterion, narrow) -> None:
    output, targets = narrow
    total = sum(
        v.mean() for v in criterion(scale_target="taylor", weight="derived")(output, targets).values()
    )
    leaves = leaves_of(output, scales=True)
    first = torch.autograd.grad(total, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.zero_()
    torch.testing.assert_close(list(torch.autograd.grad(total, leaves)), kept)


def test_only_what_needs_gradients_has_them(criterion, narrow) -> None:
    output, targets = narrow
    fixed = tuple(replace(maps, heatmaps=maps.heatmaps.detach()) for maps in output)
    made = criterion(scale_target="taylor", weight="derived")
    terms = made(fixed, targets)
    assert set(terms) == set(made(output, targets))
    sum(values.mean() for values in terms.values()).backward()
    assert all(maps.heatmaps.grad is None and maps.scales.grad is not None for maps in output)
    with torch.no_grad():
        assert not made(output, targets)["heatmap_4"].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scales", [False, True])
def test_half_precision_maps_get_half_precision_gradients(criterion, scene, dtype, scales) -> None:
    """Those of the widened maps, rounded: to the bit."""
    output, targets = scene(dtype=dtype)
    if not scales:  # as under autocast
        output = tuple(replace(m, scales=m.scales.detach().float().requires_grad_()) for m in output)
    wide = tuple(
        replace(
            m,
            heatmaps=m.heatmaps.detach().float().requires_grad_(),
            scales=m.scales.detach().float().requires_grad_(),
            tags=None if m.tags is None else m.tags.float(),
        )
        for m in output
    )
    made = criterion(scale_target="taylor", weight="derived")
    terms, wide_terms = made(output, targets), made(wide, targets)
    for name, values in wide_terms.items():
        assert torch.equal(terms[name], values)
    ours, expected = (
        torch.autograd.grad(REDUCTIONS["usual"](t), leaves_of(maps, scales=True))
        for t, maps in ((terms, output), (wide_terms, wide))
    )
    for found, wanted, leaf in zip(ours, expected, leaves_of(output, scales=True), strict=True):
        assert found.dtype == leaf.dtype
        assert torch.equal(found, wanted.to(leaf.dtype))


def test_parts_of_a_networks_channels(criterion, narrow) -> None:
    """Heatmaps are a slice of what the network's last layer says, in either memory format."""
    output, targets = narrow
    made = criterion(scale_target="taylor", weight="derived")
    expected = made(output, targets)
    for layout in (torch.contiguous_format, torch.channels_last):
        stacked = [
            torch.cat([m.heatmaps.detach(), m.scales.detach()], 1).to(memory_format=layout) for m in output
        ]
        for values in stacked:
            values.requires_grad_()
        pairs = [values.split(3, dim=1) for values in stacked]
        sliced = tuple(replace(m, heatmaps=x, scales=a) for m, (x, a) in zip(output, pairs, strict=True))
        terms = made(sliced, targets)
        for name, values in expected.items():
            assert torch.equal(terms[name], values)
        for maps, values in zip(output, stacked, strict=True):
            ours = torch.autograd.grad(terms[f"heatmap_{maps.stride}"].mean(), values)[0]
            wanted = torch.autograd.grad(
                expected[f"heatmap_{maps.stride}"].mean(), [maps.heatmaps, maps.scales], retain_graph=True
            )
            assert torch.equal(ours, torch.cat(wanted, 1))


@pytest.mark.parametrize("wrong", ["scales", "valid"])
def test_other_shapes_are_refused(criterion, narrow, untyped, wrong) -> None:
    output, targets = narrow
    if wrong == "scales":
        output = (replace(output[0], scales=output[0].scales[:, :, :5]), output[1])
    else:
        maps = replace(targets.maps[0], valid=targets.maps[0].valid[:, :5])
        targets = replace(targets, maps=(maps, targets.maps[1]))
    with pytest.raises(ValueError, match="predictions'"):
        criterion(scale_target="taylor")(output, targets)


def test_the_official_numbers(criterion, golden_arrays) -> None:
    """Which `test_official_losses.py` reproduces in float64."""
    stored = golden_arrays("c_losses.npz")
    x, a, h = (torch.from_numpy(stored[f"heat/{name}"]).float() for name in ("pred", "scale_raw", "gt"))
    valid = torch.from_numpy(stored["heat/mask"]) > 0
    made = criterion(scale_target="taylor", weight="derived")
    maps = Maps(x.requires_grad_(), None, a.requires_grad_(), None, 4)
    terms = made._map_terms(maps, MapTargets(h, valid, 4))
    gradients = torch.autograd.grad(terms["heatmap_4"].sum(), (x, a), retain_graph=True)
    gradients += torch.autograd.grad(terms["scale_map_4"].sum(), a)
    ours = [terms["heatmap_4"], terms["scale_map_4"], *gradients]
    names = ("loss", "scale_loss", "grad_pred", "grad_scale", "scale_loss_grad_scale")
    assert all(values.dtype == torch.float32 for values in ours)
    assert_close(ours, [torch.from_numpy(stored[f"heat/{name}"]).double() for name in names])
