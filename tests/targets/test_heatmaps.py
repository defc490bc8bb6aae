"""Targets: equal to the published ones, to a slow reference, and well behaved."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import targets as reference

from swahr.geometry import Affine
from swahr.structures import Batch
from swahr.targets import TargetEncoder

CASES = ("empty", "centre_one", "borders", "out_of_range", "invisible_mixed", "overlapping", "crowd30")


def _batch(keypoints: Any, visibility: Any, size: int, valid: np.ndarray | None = None) -> Batch:
    """A batch of one image; ``keypoints`` (p k 2) in the input frame."""
    mask = np.ones((size, size), dtype=bool) if valid is None else valid
    return Batch(
        images=torch.zeros(1, 3, size, size, dtype=torch.uint8),
        keypoints=torch.tensor(np.asarray(keypoints), dtype=torch.float32)[None],
        visibility=torch.tensor(np.asarray(visibility), dtype=torch.int64)[None],
        valid=torch.from_numpy(mask)[None],
        image_ids=(0,),
        input_from_image=(Affine.identity(),),
    )


def _published(golden_arrays: Any, case: str) -> tuple[np.ndarray, Any]:
    """Joints (p k 3) of a case in pixel indices of the map, as the records can hold them."""
    golden = golden_arrays("b_targets.npz")
    joints = golden[f"{case}/joints"]
    # 127.999999999 is 128 in single precision, which is off the map; the nearest value that is not:
    size = golden[f"{case}/heatmaps"].shape[-1]
    barely = (joints < size) & (joints > size - 1e-3) & (np.arange(joints.shape[-1]) < 2)
    return np.where(barely, size - 1e-3, joints), golden


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [128, 256])
def test_published_targets(golden_arrays: Any, size: int, case: str) -> None:
    joints, golden = _published(golden_arrays, f"{size}/{case}")
    stride = 512 // size
    batch = _batch(joints[..., :2] * stride + 0.5, joints[..., 2].clip(min=0), 512)
    targets = TargetEncoder(strides=(stride,), centre="truncated", alignment="official")(batch)
    np.testing.assert_array_equal(targets.maps[0].heatmaps[0], golden[f"{size}/{case}/heatmaps"])


@pytest.mark.parametrize("case", [case for case in CASES if case != "out_of_range"])
@pytest.mark.parametrize("size", [128, 256])
def test_published_tag_positions(golden_arrays: Any, size: int, case: str) -> None:
    """Published indices run over all keypoint types, and list a person's visible keypoints first."""
    joints, golden = _published(golden_arrays, f"{size}/{case}")
    stride = 512 // size
    batch = _batch(joints[..., :2] * stride + 0.5, joints[..., 2].clip(min=0), 512)
    tag_index = (
        TargetEncoder(strides=(stride,), centre="truncated", alignment="official")(batch).tag_index[0].numpy()
    )
    found = [
        [(k * size * size + index, 1) for k, index in enumerate(person) if index >= 0] for person in tag_index
    ]
    expected = [
        [tuple(pair) for pair in person if pair[1]] for person in golden[f"{size}/{case}/indices"].tolist()
    ]
    assert [person for person in found if person] == [person for person in expected if person]


def test_published_tag_positions_off_the_map(golden_arrays: Any) -> None:
    """The published code bounds the flattened index only; ours must be on the map itself."""
    joints, _ = _published(golden_arrays, "128/out_of_range")
    batch = _batch(joints[..., :2] * 4 + 0.5, joints[..., 2], 512)
    index = (
        TargetEncoder(strides=(4,), centre="truncated", alignment="official")(batch).tag_index[0, 0].tolist()
    )
    assert index[:2] == [10 * 128, 10]  # -0.5 and -0.999 are truncated to 0
    assert index[7] == 10 * 128 + 127
    assert index[12:14] == [127 * 128 + 127, 0]
    assert index[2:7] + index[8:12] + index[14:] == [-1] * 12


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_published_widths(golden_arrays: Any, sigma: float) -> None:
    joints, golden = _published(golden_arrays, f"64/sigma{sigma}")
    batch = _batch(joints[..., :2] * 2 + 0.5, joints[..., 2], 128)
    targets = TargetEncoder(strides=(2,), centre="truncated", sigma=sigma, alignment="official")(batch)
    np.testing.assert_array_equal(targets.maps[0].heatmaps[0], golden[f"64/sigma{sigma}/heatmaps"])


@pytest.mark.parametrize("sigma", [0.7, 1.5, 2.25])
def test_any_width_is_centred(sigma: float) -> None:
    """The published kernel is a pixel off its centre at such widths."""
    heatmap = (
        TargetEncoder(strides=(1,), centre="truncated", sigma=sigma)(_batch([[(16.5, 16.5)]], [[2]], 33))
        .maps[0]
        .heatmaps[0, 0]
    )
    assert heatmap[16, 16] == 1
    for other in (heatmap.flip(0), heatmap.flip(1), heatmap.T):
        assert torch.equal(heatmap, other)
    assert (heatmap > 0).sum() == (2 * int(3 * sigma + 1) + 1) ** 2


@pytest.mark.parametrize("centre", ["truncated", "unbiased"])
@pytest.mark.parametrize("alignment", ["centre", "official"])
def test_slow_reference(centre: Any, alignment: Any) -> None:
    rng = np.random.default_rng(0)
    encoder = TargetEncoder(strides=(4, 2), sigma=1.5, centre=centre, alignment=alignment)
    batch = _batch(rng.uniform(-6, 70, (6, 4, 2)), rng.integers(0, 3, (6, 4)), 64)
    targets = encoder(batch)
    truncate = alignment == "official" and centre == "truncated"
    for maps in targets.maps:
        keypoints = reference.map_indices(batch.keypoints.double().numpy(), maps.stride, alignment)
        people = keypoints, batch.visibility.numpy(), maps.heatmaps.shape[2:]
        heatmaps = reference.heatmaps(*people, 1.5, unbiased=centre == "unbiased", truncate=truncate)
        np.testing.assert_allclose(maps.heatmaps, heatmaps, rtol=1e-5, atol=1e-7)
        if maps.stride == 4:
            np.testing.assert_array_equal(targets.tag_index, reference.tag_index(*people, truncate=truncate))


@settings(max_examples=50, deadline=None)
@given(x=st.floats(0, 63.9375, width=32), y=st.floats(0, 63.9375, width=32))
def test_convention_centre(x: float, y: float) -> None:
    """The peak is the pixel that contains the point; unbiased heatmaps give the point back."""
    batch = _batch([[(x, y)]], [[1]], 64)
    plain = TargetEncoder(strides=(4, 2), centre="truncated")(batch)
    for maps in plain.maps:
        peak = int(maps.heatmaps[0, 0].argmax())
        width = maps.heatmaps.shape[-1]
        assert divmod(peak, width) == (int(y // maps.stride), int(x // maps.stride))
    assert plain.tag_index[0, 0, 0] == int(y // 4) * 16 + int(x // 4)
    heatmap = TargetEncoder(strides=(2,), centre="unbiased")(batch).maps[0].heatmaps[0, 0].double()
    row, column = divmod(int(heatmap.argmax()), 32)
    if 0 < row < 31 and 0 < column < 31:  # the logarithm is a parabola, whose apex is exact
        log = heatmap.log()
        across, down = log[row, column - 1 : column + 2], log[row - 1 : row + 2, column]
        found = [2 * (column + 0.5 + _apex(across)), 2 * (row + 0.5 + _apex(down))]
        np.testing.assert_allclose(found, [x, y], atol=1e-4)


def _apex(values: torch.Tensor) -> float:
    """Where the parabola through three values has its maximum, from the middle one."""
    return float((values[2] - values[0]) / (2 * (2 * values[1] - values[0] - values[2])))


def test_order_of_people_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    keypoints, visibility = rng.uniform(0, 64, (8, 3, 2)), rng.integers(0, 3, (8, 3))
    order = rng.permutation(8)
    encoder = TargetEncoder(strides=(4, 2), centre="truncated")
    one, other = (
        encoder(_batch(keypoints, visibility, 64)),
        encoder(_batch(keypoints[order], visibility[order], 64)),
    )
    for a, b in zip(one.maps, other.maps, strict=True):
        assert torch.equal(a.heatmaps, b.heatmaps)
    assert torch.equal(one.tag_index[:, order], other.tag_index)


def test_images_do_not_mix() -> None:
    a, b = _batch([[(10, 10)]], [[2]], 64), _batch([[(50, 20)]], [[2]], 64)
    both = Batch(
        *(
            torch.cat([getattr(a, name), getattr(b, name)])
            for name in ("images", "keypoints", "visibility", "valid")
        ),
        image_ids=(0, 1),
        input_from_image=a.input_from_image * 2,
    )
    encoder = TargetEncoder(strides=(4,), centre="truncated")
    together = encoder(both)
    for row, alone in enumerate((encoder(a), encoder(b))):
        assert torch.equal(together.maps[0].heatmaps[row], alone.maps[0].heatmaps[0])
        assert torch.equal(together.tag_index[row], alone.tag_index[0])


def test_without_people() -> None:
    targets = TargetEncoder(strides=(4, 2), centre="truncated")(
        _batch(np.zeros((0, 17, 2)), np.zeros((0, 17)), 64)
    )
    assert [tuple(maps.heatmaps.shape) for maps in targets.maps] == [(1, 17, 16, 16), (1, 17, 32, 32)]
    assert not any(maps.heatmaps.any() for maps in targets.maps)
    assert targets.tag_index.shape == (1, 0, 17)


def test_absent_keypoints_are_not_drawn() -> None:
    targets = TargetEncoder(strides=(4,), centre="truncated")(_batch([[(10, 10), (20, 20)]], [[0, 1]], 64))
    assert targets.maps[0].heatmaps[0].amax(dim=(1, 2)).tolist() == [0, 1]
    assert targets.tag_index[0, 0].tolist() == [-1, 5 * 16 + 5]


def test_coordinates_far_away_are_harmless() -> None:
    targets = TargetEncoder(strides=(4,), centre="truncated")(
        _batch([[(1e6, 10), (10, -1e6), (3e9, 3e9)]], [[2, 2, 2]], 64)
    )
    assert not targets.maps[0].heatmaps.any()
    assert targets.tag_index[0, 0].tolist() == [-1, -1, -1]


def test_mask_pixel_is_valid_when_half_of_it_is() -> None:
    valid = np.ones((8, 8), dtype=bool)
    valid[0, :4] = False  # a quarter of the first pixel of stride 4
    valid[4:6, :4] = False  # half
    valid[4:6, 4:] = False
    valid[6, 4] = False  # more than half
    targets = TargetEncoder(strides=(4, 2), centre="truncated")(_batch([[(1, 1)]], [[2]], 8, valid))
    assert targets.maps[0].valid[0].tolist() == [[True, True], [True, False]]
    assert targets.maps[1].valid[0].tolist() == [[True] * 4, [True] * 4, [False] * 4, [True] * 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": ()}, "positive strides, coarse to fine"),
        ({"strides": (2, 4)}, r"coarse to fine, got \(2, 4\)"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"strides": (4, 3)}, "multiple of the stride 3"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetEncoder(**({"strides": (4,), "centre": "truncated"} | changes))(_batch([[(1, 1)]], [[2]], 64))
