"""Peaks: local maxima of heatmaps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.peaks import find_peaks

from swahr.geometry import Affine
from swahr.grouping import PeakExtractor
from swahr.structures import DenseMaps

GOLDEN = ["p0", "p1_t1", "p1_t2", "p5_t1", "p5_t2", "p15_t1", "p15_t2", "p30_t1", "p30_t2", "p35_over_max"]
GOLDEN += ["spurious", "missing", "close_tags", "close_tags_t1", "close_tags_noval", "ignore_too_much"]
GOLDEN += ["equal_tags", "borders", "crowd14_p5", "crowd14_p15_close", "nms3", "plateau"]


def dense(heatmaps: torch.Tensor, tag_dimensions: int = 1) -> DenseMaps:
    tags = torch.arange(heatmaps.numel() * tag_dimensions, dtype=torch.float32)
    fields = {"heatmaps": heatmaps, "tags": tags.reshape(*heatmaps.shape, tag_dimensions)}
    return DenseMaps(fields, map_from_image=(Affine.identity(),) * len(heatmaps))


def test_convention_a_peak_lies_at_its_pixels_centre():
    heatmaps = torch.zeros(1, 1, 8, 9)
    heatmaps[0, 0, 2, 6] = 0.7
    peaks = PeakExtractor(max_people=3)(dense(heatmaps))
    assert peaks.positions[0, 0, 0].tolist() == [6.5, 2.5]
    assert peaks.scores[0, 0].tolist() == pytest.approx([0.7, 0, 0])
    assert peaks.tags[0, 0, 0].tolist() == [2 * 9 + 6]


def test_a_neighbour_within_the_window_is_suppressed():
    heatmaps = torch.zeros(1, 1, 12, 12)
    heatmaps[0, 0, 5, 5], heatmaps[0, 0, 5, 7], heatmaps[0, 0, 5, 8] = 0.9, 0.8, 0.7
    wide = PeakExtractor(window=5, max_people=4)(dense(heatmaps))
    narrow = PeakExtractor(window=3, max_people=4)(dense(heatmaps))
    assert (wide.scores > 0).sum() == 1
    assert (narrow.scores > 0).sum() == 2


@pytest.mark.parametrize(("plateaus", "count"), [("one", 1), ("all", 4)])
def test_a_keypoint_exactly_between_four_pixels(plateaus: str, count: int):
    heatmaps = torch.zeros(1, 1, 10, 10)
    heatmaps[0, 0, 4:6, 4:6] = 0.5
    peaks = PeakExtractor(plateaus=plateaus)(dense(heatmaps))
    assert (peaks.scores > 0).sum() == count
    assert [4.5, 4.5] in peaks.positions[0, 0, :count].tolist()


def test_equal_peaks_that_do_not_share_a_window_are_two():
    heatmaps = torch.zeros(1, 1, 10, 10)
    heatmaps[0, 0, 4, 2] = heatmaps[0, 0, 4, 5] = 0.5
    assert (PeakExtractor(window=5)(dense(heatmaps)).scores > 0).sum() == 2


def test_a_peak_as_high_as_anothers_slope_stays():
    heatmaps = torch.zeros(1, 1, 10, 12)
    heatmaps[0, 0, 4, 2:7] = torch.tensor([0.9, 0.5, 0.4, 0.5, 0.3])
    # The window of the peak at x = 5 reaches the equal slope at x = 3, but not the peak at x = 2.
    assert PeakExtractor()(dense(heatmaps)).positions[0, 0, :2, 0].tolist() == [2.5, 5.5]


def test_heat_at_the_threshold_is_no_peak():
    heatmaps = torch.zeros(1, 1, 10, 10)
    heatmaps[0, 0, 4, 4] = 0.25
    assert (PeakExtractor(threshold=0.25)(dense(heatmaps)).scores == 0).all()


def test_a_map_smaller_than_the_number_of_people():
    peaks = PeakExtractor(max_people=30)(dense(torch.rand(2, 3, 2, 4), tag_dimensions=2))
    assert peaks.positions.shape == (2, 3, 8, 2)
    assert peaks.tags.shape == (2, 3, 8, 2)


def leveled(seed: int, *shape: int) -> torch.Tensor:
    """Random heatmaps, often of so few levels that many pixels are equal."""
    heatmaps = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).transpose(2, 3)
    levels = (1, 4, 50, 2**20)[seed % 4]
    return (heatmaps * levels).round() / levels


SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 17), st.integers(1, 19))
WINDOWS, KEPT = st.sampled_from([1, 3, 5, 31]), st.sampled_from([1, 4, 30])
PLATEAUS = st.sampled_from(["one", "all"])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), SHAPES, WINDOWS, KEPT, PLATEAUS)
def test_equals_the_slow_reference(seed: int, shape: tuple[int, ...], window: int, kept: int, plateaus: str):
    heatmaps, options = leveled(seed, *shape), {"window": window, "max_people": kept, "plateaus": plateaus}
    extract = PeakExtractor(threshold=0.3, **options)
    for find in (extract, extract.in_tensors):
        peaks = find(dense(heatmaps))
        for image, keypoint in np.ndindex(*heatmaps.shape[:2]):
            expected = find_peaks(heatmaps[image, keypoint].numpy(), threshold=0.3, **options)
            scores, positions = peaks.scores[image, keypoint], peaks.positions[image, keypoint]
            assert scores[len(expected) :].tolist() == [0] * (len(scores) - len(expected))
            found = torch.column_stack([positions, scores])[: len(expected)].tolist()
            assert found == [[x + 0.5, y + 0.5, score] for x, y, score in expected]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), SHAPES, WINDOWS, KEPT, PLATEAUS)
def test_the_kernel_and_tensor_operations_return_the_same(
    seed: int, shape: tuple[int, ...], window: int, kept: int, plateaus: str
):
    maps = dense(leveled(seed, *shape), tag_dimensions=2)
    extract = PeakExtractor(window=window, max_people=kept, plateaus=plateaus)
    by_kernel, by_tensors = extract(maps), extract.in_tensors(maps)
    for name in ("positions", "scores", "tags"):
        assert torch.equal(getattr(by_kernel, name), getattr(by_tensors, name))


def test_negative_heat_can_be_a_peak_above_a_negative_threshold():
    heatmaps = torch.full((1, 1, 9, 9), -5.0)
    heatmaps[0, 0, 2, 2], heatmaps[0, 0, 6, 6] = -0.5, -0.2
    extract = PeakExtractor(threshold=-1.0)
    for find in (extract, extract.in_tensors):
        peaks = find(dense(heatmaps))
        assert peaks.scores[0, 0, :3].tolist() == pytest.approx([-0.2, -0.5, 0.0])
        assert peaks.positions[0, 0, :2].tolist() == [[6.5, 6.5], [2.5, 2.5]]


@pytest.mark.parametrize("plateaus", ["one", "all"])
def test_a_gpu_is_not_waited_for(plateaus: str):
    """Tensors on "meta" have no values, so that whatever would wait for one raises an error."""
    maps = dense(torch.rand(2, 3, 20, 30), tag_dimensions=2)
    on_meta = replace(maps, fields={name: field.to("meta") for name, field in maps.fields.items()})
    peaks = PeakExtractor(plateaus=plateaus)(on_meta)
    assert peaks.tags.shape == (2, 3, 30, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("plateaus", ["one", "all"])
def test_nan_is_no_peak(dtype: torch.dtype, plateaus: str):
    heatmaps = torch.zeros(1, 2, 9, 14, dtype=dtype)
    heatmaps[0, :, 6, 3], heatmaps[0, 0, 1, 8] = 0.5, torch.nan
    heatmaps[0, 1, 1, 8], heatmaps[0, 1, 2, 2] = torch.inf, -torch.inf
    peaks = PeakExtractor(plateaus=plateaus)(dense(heatmaps))
    assert peaks.scores[0, 0, :2].tolist() == [0.5, 0]
    assert peaks.scores[0, 1, :3].tolist() == [torch.inf, 0.5, 0]
    maps = dense(torch.full((1, 1, 7, 7), torch.nan, dtype=dtype))
    assert (PeakExtractor(plateaus=plateaus)(maps).scores == 0).all()


def test_no_golden_case_is_left_out(golden_json):
    assert sorted(GOLDEN) == sorted(golden_json("d_group.json"))


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_peaks(golden_arrays, golden_json, case: str):
    golden = golden_arrays("d_group.npz")
    fields = {"heatmaps": golden[f"{case}/det"], "tags": golden[f"{case}/tag"]}
    maps = DenseMaps({name: torch.from_numpy(array) for name, array in fields.items()}, (Affine.identity(),))
    window = golden_json("d_group.json")[case]["test_overrides"].get("NMS_KERNEL", 5)
    peaks = PeakExtractor(window=window, plateaus="all")(maps)
    counted = golden[f"{case}/topk_val"] > 0.1
    assert (peaks.scores.numpy() > 0).tolist() == counted.tolist()
    assert (peaks.scores.numpy()[counted] == golden[f"{case}/topk_val"][counted]).all()
    assert (peaks.positions.numpy()[counted] - 0.5 == golden[f"{case}/topk_loc"][counted]).all()
    assert (peaks.tags.numpy()[counted] == golden[f"{case}/topk_tag"][counted]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": 4}, "odd window"),
        ({"max_people": 0}, "max_peop"),
        ({"threshold": -0.1, "plateaus": "all"}, "at least 0"),
        ({"plateaus": "two"}, "plateaus: expected one of 'one', 'all', got 'two'"),
    ],
)
def test_bad_settings(untyped, values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        PeakExtractor(**values)
