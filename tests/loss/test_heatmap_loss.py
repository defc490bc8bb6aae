import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from swahr.loss.heatmap import (
    adapted_target,
    derived_weight,
    learned_weight,
    masked_mean,
    support_only,
    weight_penalty,
)

UNIT = st.floats(0.001, 1.0)
ALPHA = st.floats(-0.9, 4.0)
FORMS = ["taylor", "exact"]


def _pixel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.fixture
def gaussian() -> torch.Tensor:
    """Deviation 2 px in a 15 x 15 patch, zeros around it: one target as the encoder makes it."""
    y, x = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(21.0) - 10, indexing="ij")
    heat = torch.exp(-(x.square() + y.square()) / 8).double()
    return torch.where((x.abs() <= 7) & (y.abs() <= 7), heat, 0.0)[None, None]


@pytest.mark.parametrize("form", FORMS)
def test_no_adaptation_gives_the_base_target_back(gaussian, form) -> None:
    torch.testing.assert_close(adapted_target(gaussian, torch.zeros_like(gaussian), form), gaussian)


@given(heat=UNIT, alpha=ALPHA)
def test_exact_is_the_power_and_taylor_its_second_order(heat: float, alpha: float) -> None:
    exact = adapted_target(_pixel(heat), _pixel(alpha), "exact").item()
    taylor = adapted_target(_pixel(heat), _pixel(alpha), "taylor").item()
    exponent = alpha * math.log(heat)
    assert exact == pytest.approx(heat ** (1 + alpha))
    assert taylor == pytest.approx(heat * (1 + exponent + exponent**2 / 2))
    # Lagrange's remainder of the exponential series.
    assert abs(exact - taylor) <= heat * abs(exponent) ** 3 / 6 * max(1.0, math.exp(exponent)) + 1e-12


@pytest.mark.parametrize("person_scale", [0.5, 1.5, 2.0])
def test_exact_is_a_gaussian_of_the_scaled_deviation(gaussian, person_scale) -> None:
    alpha = torch.full_like(gaussian, 1 / person_scale**2 - 1)
    adapted = adapted_target(gaussian, support_only(alpha, gaussian), "exact")[0, 0, 10]
    offsets = torch.arange(21.0).double() - 10
    wanted = torch.exp(-offsets.square() / (2 * (2 * person_scale) ** 2))
    torch.testing.assert_close(adapted, torch.where(offsets.abs() <= 7, wanted, 0.0), rtol=1e-6, atol=1e-9)


def test_taylor_is_wrong_in_the_tail_of_a_narrowed_target(gaussian) -> None:
    """The numbers that speak for ``exact``: alpha = 1, six pixels from the centre."""
    alpha = torch.ones_like(gaussian)
    at_six = {form: adapted_target(gaussian, alpha, form)[0, 0, 10, 16].item() for form in FORMS}
    assert at_six["exact"] == pytest.approx(0.0001, abs=5e-5)
    assert at_six["taylor"] == pytest.approx(0.074, abs=5e-4)


def test_exact_stays_below_one_however_wide(gaussian) -> None:
    alpha = torch.full_like(gaussian, -50.0).requires_grad_()
    adapted = adapted_target(gaussian, support_only(alpha, gaussian), "exact")
    adapted.sum().backward()
    assert adapted.max() <= 1
    assert adapted[0, 0, 10, 0] == 0
    assert torch.isfinite(alpha.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_right_and_finite_also_off_the_support(gaussian, form) -> None:
    patch = gaussian[..., 6:15, 1:8]
    assert (patch == 0).any()
    alpha = torch.linspace(-0.8, 1.5, patch.numel(), dtype=torch.float64).view_as(patch).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: adapted_target(patch, support_only(a, patch), form), alpha)


def test_outside_the_support_the_scale_map_means_nothing(gaussian) -> None:
    scale_map = torch.randn_like(gaussian)
    alpha = support_only(scale_map, gaussian)
    assert torch.equal(alpha != 0, gaussian > 0)


def test_derived_weight_is_the_error_of_a_classifier(gaussian) -> None:
    """Nearly |1 - P| on the support and |P| off it, as gamma is small."""
    predictions = torch.randn_like(gaussian)
    weight = derived_weight(predictions, gaussian, gamma=1e-6)
    wanted = torch.where(gaussian > 0, (1 - predictions).abs(), predictions.abs())
    torch.testing.assert_close(weight, wanted, rtol=0, atol=1e-4)


@given(prediction=st.floats(-2, 2), heat=st.floats(0, 1), gamma=st.floats(0.005, 1))
def test_derived_weight_by_its_formula(prediction: float, heat: float, gamma: float) -> None:
    weight = derived_weight(_pixel(prediction), _pixel(heat), gamma).item()
    power = heat**gamma
    assert weight == pytest.approx(abs(1 - prediction) * power + abs(prediction) * (1 - power))


@given(residual=st.floats(0, 2), floor=st.floats(0.05, 3))
def test_a_learned_weight_cannot_win_by_shrinking(residual: float, floor: float) -> None:
    """Its best value is floor / (floor + r^2) > 0; from there on, less weight is more loss, without bound."""

    def loss(value: float) -> float:
        v = _pixel(value)
        return (learned_weight(v) * residual**2 + floor * weight_penalty(v)).item()

    best = math.log(floor / (floor + residual**2))
    values = [loss(best - step) for step in (0.0, 0.1, 1.0, 5.0, 20.0, 100.0)]
    assert values == sorted(values)
    assert values[-1] > 50 * floor
    assert loss(best + 0.1) > values[0]
    assert values[0] == pytest.approx(floor * math.log1p(residual**2 / floor), abs=1e-12)


def test_a_learned_weight_starts_as_the_plain_loss() -> None:
    assert learned_weight(_pixel(0.0)).item() == 1
    assert weight_penalty(_pixel(0.0)).item() == 0


def test_masked_pixels_count_in_the_denominator_only() -> None:
    values = torch.tensor([[1.0, 3.0], [100.0, 5.0]])[None, None]
    valid = torch.tensor([[[True, True], [False, True]]])
    assert masked_mean(values, valid).tolist() == [(1 + 3 + 5) / 4]
