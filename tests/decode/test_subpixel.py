"""Sub-pixel positions: quarter offset and DARK."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.subpixel import dark, modulated

from swahr.decode import Dark, DarkWithScaleMap, PixelCentre, QuarterOffset, SubpixelMethod
from swahr.decode.subpixel import log_modulated_patches, quarter_offset, taylor_offset
from swahr.structures import Groups, ImageMaps


def gaussian(x: float, y: float, h: int = 40, w: int = 48, sigma: float = 2.0) -> torch.Tensor:
    """A Gaussian centred at continuous (x, y)."""
    rows, columns = torch.arange(h, dtype=torch.float64) + 0.5, torch.arange(w, dtype=torch.float64) + 0.5
    squared = (columns[None] - x) ** 2 + (rows[:, None] - y) ** 2
    return torch.exp(-squared / (2 * sigma**2)).float()


def group_at(*cells: tuple[int, int]) -> Groups:
    """One person whose k-th keypoint is the peak at pixel (x, y) of map k."""
    positions = np.array([cells], dtype=np.float64) + 0.5
    return Groups(
        positions=positions,
        scores=np.ones(positions.shape[:2]),
        present=np.ones(positions.shape[:2], dtype=bool),
        tag=np.zeros((1, 1)),
    )


def maps_of(heatmaps: torch.Tensor, **others: torch.Tensor) -> ImageMaps:
    return ImageMaps({"heatmaps": heatmaps, **others})


def refined(refine: SubpixelMethod, heatmap: torch.Tensor, x: int, y: int) -> list[float]:
    return refine(group_at((x, y)), maps_of(heatmap[None])).positions[0, 0].tolist()


def test_quarter_offset_by_hand():
    heatmap = torch.zeros(1, 6, 6)
    heatmap[0, 2, 2:5] = torch.tensor([0.1, 1.0, 0.3])
    heatmap[0, 1, 3], heatmap[0, 3, 3] = 0.4, 0.2
    assert quarter_offset(heatmap, torch.tensor([[0, 2, 3]])).tolist() == [[0.25, -0.25]]


def test_convention_the_quarter_offset_of_a_tie_is_negative():
    heatmap = torch.zeros(1, 6, 6)
    heatmap[0, 3, 3] = 1.0
    assert quarter_offset(heatmap, torch.tensor([[0, 3, 3]])).tolist() == [[-0.25, -0.25]]


def test_quarter_offset_at_the_border_compares_with_the_peak_itself():
    heatmap = torch.zeros(1, 5, 5)
    heatmap[0, 0, 0], heatmap[0, 4, 4] = 1.0, 1.0
    offsets = quarter_offset(heatmap, torch.tensor([[0, 0, 0], [0, 4, 4]]))
    assert offsets.tolist() == [[-0.25, -0.25], [0.25, 0.25]]


@settings(deadline=None, max_examples=60)
@given(st.floats(12, 30), st.floats(12, 30))
def test_dark_finds_the_centre_of_a_gaussian(x: float, y: float):
    found = refined(Dark(), gaussian(x, y), int(x), int(y))
    assert found == pytest.approx([x, y], abs=2e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([(7, 1.5), (11, 2.0)]))
def test_dark_equals_the_slow_reference(seed: int, kernel: tuple[int, float]):
    generator = torch.Generator().manual_seed(seed)
    heatmap = gaussian(20.3, 18.8) + 0.05 * torch.rand(40, 48, generator=generator)
    y, x = divmod(int(heatmap.argmax()), 48)
    size, sigma = kernel
    offset = dark(modulated(heatmap.numpy(), kernel_size=size, sigma=sigma), x, y)
    expected = np.array([x, y]) + 0.5 + offset
    found = refined(Dark(kernel_size=size, sigma=sigma, max_offset=9.0), heatmap, x, y)
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("case", ["64x48_k11", "64x48_k17", "128x96_k11", "128x96_k17", "degenerate"])
def test_golden_dark(golden_arrays, case: str):
    """The published formula, on every map: clean, at borders, noisy, negative, two peaks, ties, constant."""
    golden = golden_arrays("g_dark.npz")
    heatmaps = torch.from_numpy(golden[f"{case}/heatmaps"]).flatten(0, 1)
    x, y = golden[f"{case}/argmax"].reshape(-1, 2).astype(np.int64).T
    index = torch.from_numpy(np.column_stack([np.arange(len(x)), y, x]))
    kernel_size = 17 if case.endswith("k17") else 11
    sigmas = torch.full((len(x),), 0.3 * ((kernel_size - 1) / 2 - 1) + 0.8)
    log_heat = log_modulated_patches(heatmaps, index, sigmas, kernel_size=kernel_size, rescale="maximum")
    offset, _ = taylor_offset(log_heat)
    h, w = heatmaps.shape[1:]
    inside = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2)
    found = np.column_stack([x, y]) + np.where(inside[:, None], offset.numpy(), 0)
    assert inside.sum() == (0 if case == "degenerate" else 31)
    official = golden[f"{case}/refined"].reshape(-1, 2)
    np.testing.assert_allclose(found, official, rtol=0, atol=1e-4)
    # The refiner is the same, but for the border, where the published code leaves the pixel's centre.
    refine = Dark(sigma=sigmas[0].item(), kernel_size=kernel_size, max_offset=9.0)
    moved = refine(group_at(*zip(x, y, strict=True)), maps_of(heatmaps)).positions[0] - 0.5
    np.testing.assert_allclose(moved[inside], official[inside], rtol=0, atol=1e-4)
    border = np.column_stack([x, y]) + quarter_offset(heatmaps, index).numpy()
    np.testing.assert_array_equal(moved[~inside], border[~inside])


def test_a_constant_map_has_no_offset_and_no_maximum():
    offset, is_maximum = taylor_offset(torch.zeros(1, 5, 5))
    assert offset.tolist() == [[0, 0]]
    assert not is_maximum.any()


def test_both_ways_of_rescaling_agree_on_a_clean_peak_but_not_on_a_pedestal():
    clean = gaussian(20.3, 18.8)
    maximum, spread = (refined(Dark(rescale=rescale), clean, 20, 18) for rescale in ("maximum", "range"))
    assert maximum == pytest.approx(spread, abs=1e-4)
    pedestal = clean + 0.3
    maximum, spread = (refined(Dark(rescale=rescale), pedestal, 20, 18) for rescale in ("maximum", "range"))
    assert spread == pytest.approx([20.3, 18.8], abs=0.02)
    assert maximum != pytest.approx(spread, abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.floats(14, 26), st.floats(14, 26), st.floats(0.0, 0.6))
def test_range_rescaling_is_the_formula_of_the_paper(x: float, y: float, pedestal: float):
    """(h' - min h') max h / (max h' - min h') over a whole map; ours takes the lowest heat about the peak."""
    heatmap = gaussian(x, y, h=40, w=40) + pedestal
    blurred = cv2.GaussianBlur(heatmap.double().numpy(), (11, 11), 2.0, borderType=cv2.BORDER_REPLICATE)
    rescaled = (blurred - blurred.min()) / (blurred.max() - blurred.min()) * heatmap.max().item()
    log_heat = np.log(np.maximum(rescaled, 1e-10))
    cell_y, cell_x = int(y), int(x)
    patch = torch.from_numpy(log_heat[cell_y - 2 : cell_y + 3, cell_x - 2 : cell_x + 3])[None]
    expected = taylor_offset(patch)[0][0] + torch.tensor([cell_x + 0.5, cell_y + 0.5])
    assert refined(Dark(rescale="range"), heatmap, cell_x, cell_y) == pytest.approx(
        expected.tolist(), abs=5e-3
    )


def test_dark_falls_back_to_the_quarter_offset_at_the_border():
    heatmap = gaussian(1.6, 20.4)
    assert refined(Dark(), heatmap, 1, 20) == refined(QuarterOffset(), heatmap, 1, 20)
    assert refined(Dark(), gaussian(2.6, 20.4), 2, 20) != refined(QuarterOffset(), gaussian(2.6, 20.4), 2, 20)


def test_dark_falls_back_to_the_quarter_offset_where_the_fit_is_no_maximum():
    heatmap = torch.full((30, 30), 0.5)
    assert refined(Dark(), heatmap, 15, 15) == refined(QuarterOffset(), heatmap, 15, 15)


def test_the_offset_of_dark_is_limited():
    x, y = refined(Dark(max_offset=1.0), gaussian(20.5, 18.5), 17, 18)
    assert x == 18.5
    assert y == pytest.approx(18.5, abs=1e-3)


def test_another_person_far_away_changes_nothing():
    alone = gaussian(12.3, 14.8)
    both = torch.maximum(alone, 3 * gaussian(36.0, 30.0))
    assert refined(Dark(), both, 12, 14) == pytest.approx(refined(Dark(), alone, 12, 14), abs=1e-4)


def test_the_kernel_follows_the_scale_map():
    """A narrow target (scale map 3: half the width) modulated with its own width, as 0 is with sigma."""
    heatmaps = gaussian(20.3, 18.8)[None]
    groups = group_at((20, 18))
    plain = maps_of(heatmaps)

    def adapted(value: float) -> list:
        maps = maps_of(heatmaps, scale_maps=torch.full((1, 40, 48), value))
        return DarkWithScaleMap(sigma=2.0)(groups, maps).positions.tolist()

    assert adapted(3.0) == Dark(sigma=1.0)(groups, plain).positions.tolist()
    assert adapted(0.0) == Dark()(groups, plain).positions.tolist()
    assert adapted(-2.0) == Dark(sigma=4.0)(groups, plain).positions.tolist()


def test_without_scale_maps_the_error_says_what_to_do():
    with pytest.raises(ValueError, match="or use decode=dark"):
        DarkWithScaleMap()(group_at((20, 18)), maps_of(gaussian(20, 18)[None]))


def test_missing_keypoints_stay_where_they_are_and_the_input_is_not_written_to():
    groups = group_at((20, 18), (3, 4))
    groups.present[0, 1] = False
    maps = maps_of(torch.stack([gaussian(20.3, 18.8)] * 2))
    assert PixelCentre()(groups, maps).positions.tolist() == groups.positions.tolist()
    moved = QuarterOffset()(groups, maps)
    assert moved.positions[0].tolist() == [[20.25, 18.75], [3.5, 4.5]]
    assert groups.positions[0, 0].tolist() == [20.5, 18.5]


def test_without_people():
    groups = Groups(np.zeros((0, 1, 2)), np.zeros((0, 1)), np.zeros((0, 1), dtype=bool), np.zeros((0, 1)))
    assert len(Dark()(groups, maps_of(gaussian(20, 18)[None]))) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernel_size": 10}, "odd kernel_size"),
        ({"sigma": 0.0}, "positive"),
        ({"max_offset": 0.0}, "positive"),
    ],
)
def test_bad_settings_of_dark(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Dark(**values)
