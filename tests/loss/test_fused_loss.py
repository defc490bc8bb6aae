"""What a CPU runs equals the formulas that GPUs run, in values and gradients, however it is asked."""

from dataclasses import replace

import pytest
import torch

from swahr.loss import fused

CHOICES = [(target, weight) for target in ("none", "taylor", "exact") for weight in ("none", "derived")]


def leaves_of(output, *, scales: bool):
    return [m for maps in output for m in ((maps.heatmaps, maps.scales) if scales else (maps.heatmaps,))]


def dense_terms(made, output, targets):
    terms = {}
    for maps, target in zip(output, targets.maps, strict=True):
        terms |= made._dense_terms(maps, target)
    return terms


def weighed(terms, *, seed: int):
    """A sum in which every term of every image counts differently."""
    generator = torch.Generator().manual_seed(seed)
    return sum((values * torch.randn(len(values), generator=generator)).sum() for values in terms.values())


@pytest.mark.parametrize("block", [7, 64, 600, 1 << 16])
@pytest.mark.parametrize("choice", CHOICES)
def test_equals_the_dense_form(criterion, scene, choice, block, monkeypatch) -> None:
    """Whether blocks are parts of planes, planes or images; for the usual mean over the batch and others."""
    monkeypatch.setattr(fused, "_BLOCK", block)
    made = criterion(scale_target=choice[0], weight=choice[1], heatmap_weight=3.0, scale_map_weight=0.5)
    output, targets = scene()
    valid = targets.maps[1].valid.clone()
    valid[0] = True  # nothing to mask in one image
    targets = replace(targets, maps=(targets.maps[0], replace(targets.maps[1], valid=valid)))
    leaves = leaves_of(output, scales=choice[0] != "none")
    terms, dense = made(output, targets), dense_terms(made, output, targets)
    for name, values in dense.items():
        torch.testing.assert_close(terms[name], values)
    for reduce in (lambda t: sum(v.mean() for v in t.values()), lambda t: weighed(t, seed=1)):
        ours, expected = (
            torch.autograd.grad(reduce({name: t[name] for name in dense}), leaves, retain_graph=True)
            for t in (terms, dense)
        )
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("choice", CHOICES)
def test_gradcheck(scene, choice) -> None:
    (maps, _), targets = scene()
    target = targets.maps[0]
    x, a, h = (
        values[:, :2, :3, :4].detach().double() for values in (maps.heatmaps, maps.scales, target.heatmaps)
    )
    gamma = 0.01 if choice[1] == "derived" else None
    loss = fused.FusedHeatmapLoss(choice[0], gamma, error_factor=3.0, regulariser_factor=0.5)
    if choice[0] == "none":
        checked = torch.autograd.gradcheck(
            lambda x: loss(x, None, h, target.valid[:, :3, :4])[0], x.requires_grad_()
        )
    else:
        checked = torch.autograd.gradcheck(
            lambda x, a: loss(x, a, h, target.valid[:, :3, :4]), (x.requires_grad_(), a.requires_grad_())
        )
    assert checked


def test_gradients_can_be_asked_for_again_and_written_on(criterion, scene) -> None:
    output, targets = scene()
    total = sum(
        v.mean() for v in criterion(scale_target="taylor", weight="derived")(output, targets).values()
    )
    leaves = leaves_of(output, scales=True)
    first = torch.autograd.grad(total, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.zero_()
    torch.testing.assert_close(list(torch.autograd.grad(total, leaves)), kept)


def test_only_what_needs_gradients_has_them(criterion, scene) -> None:
    output, targets = scene()
    fixed = tuple(replace(maps, heatmaps=maps.heatmaps.detach()) for maps in output)
    made = criterion(scale_target="taylor", weight="derived")
    terms = made(fixed, targets)
    assert set(terms) == set(made(output, targets))
    sum(values.mean() for values in terms.values()).backward()
    assert all(maps.heatmaps.grad is None and maps.scales.grad is not None for maps in output)
    with torch.no_grad():
        assert not made(output, targets)["heatmap_4"].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_get_half_precision_gradients(criterion, scene, dtype) -> None:
    output, targets = scene(dtype=dtype)
    wide = tuple(
        replace(m, heatmaps=m.heatmaps.detach().float().requires_grad_(), scales=m.scales.detach().float())
        for m in output
    )
    made = criterion(scale_target="taylor", weight="derived")
    gradients = []
    for maps in (output, wide):
        terms = made(maps, targets)
        assert terms["heatmap_4"].dtype == torch.float32
        gradients.append(torch.autograd.grad(terms["heatmap_4"].mean(), maps[0].heatmaps)[0])
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(gradients[0], gradients[1].to(dtype))


def test_parts_of_a_networks_channels(criterion, scene) -> None:
    """Heatmaps are a slice of what the network's last layer says, in either memory format."""
    output, targets = scene(dtype=torch.float32)
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
            torch.testing.assert_close(terms[name], values)
        for maps, values in zip(output, stacked, strict=True):
            ours = torch.autograd.grad(terms[f"heatmap_{maps.stride}"].mean(), values)[0]
            wanted = torch.autograd.grad(
                expected[f"heatmap_{maps.stride}"].mean(), [maps.heatmaps, maps.scales], retain_graph=True
            )
            torch.testing.assert_close(ours, torch.cat(wanted, 1))
