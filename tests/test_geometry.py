"""The pixel convention, and maps between frames."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from swahr.geometry import (
    INDEX_FROM_POINT,
    POINT_FROM_INDEX,
    Affine,
    fit_rectangle,
    map_from_input,
    warp_image,
)

POINTS = np.array([(0.0, 0.0), (3.5, -2.0), (100.25, 77.0)])


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    """Any composition of the elementary maps, none of them nearly singular."""
    shift = [draw(st.floats(-50, 50)) for _ in range(2)]
    ratio = [draw(st.floats(0.2, 5)) for _ in range(2)]
    turned = Affine.rotation(draw(st.floats(-180, 180))) @ Affine.scaling(*ratio)
    moved = Affine.translation(*shift) @ turned
    return Affine.horizontal_flip(draw(st.floats(1, 100))) @ moved if draw(st.booleans()) else moved


@given(a=affines(), b=affines(), c=affines())
def test_composition(a: Affine, b: Affine, c: Affine) -> None:
    np.testing.assert_allclose((a @ b).apply(POINTS), a.apply(b.apply(POINTS)), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(((a @ b) @ c).matrix, (a @ (b @ c)).matrix, rtol=1e-9, atol=1e-6)
    assert (a @ b).area_ratio == pytest.approx(a.area_ratio * b.area_ratio)


@given(affine=affines())
def test_inverse(affine: Affine) -> None:
    np.testing.assert_allclose(affine.inverse().apply(affine.apply(POINTS)), POINTS, atol=1e-8)
    np.testing.assert_allclose((affine @ affine.inverse()).matrix, Affine.identity().matrix, atol=1e-8)


def test_singular_map_has_no_inverse() -> None:
    with pytest.raises(ValueError, match=r"invertible.*\[\[0.0, 0.0, 0.0\]"):
        Affine.scaling(0.0, 1.0).inverse()


def test_convention_rotation_is_clockwise_as_seen() -> None:
    """From x (right) to y, which points down."""
    np.testing.assert_allclose(Affine.rotation(90.0).apply(np.array([1.0, 0.0])), [0, 1], atol=1e-15)


def test_convention_flip() -> None:
    flip = Affine.horizontal_flip(10.0)
    np.testing.assert_array_equal(flip.apply(np.array([(0.0, 3.0), (9.5, 3.0)])), [(10, 3), (0.5, 3)])
    np.testing.assert_array_equal((flip @ flip).matrix, Affine.identity().matrix)
    assert (flip.area_ratio, flip.length_ratio) == (-1, 1)


def test_convention_half_pixel() -> None:
    np.testing.assert_array_equal(POINT_FROM_INDEX.apply(np.array([0.0, 4.0])), [0.5, 4.5])
    np.testing.assert_array_equal((INDEX_FROM_POINT @ POINT_FROM_INDEX).matrix, Affine.identity().matrix)


def test_convention_alignment() -> None:
    """Centre: corners stay corners. Official: pixel indices are divided."""
    corner = np.array([64.0, 64.0])
    np.testing.assert_array_equal(map_from_input(4).apply(corner), [16, 16])
    pixel = POINT_FROM_INDEX.apply(np.array([8.0, 4.0]))
    official = INDEX_FROM_POINT @ map_from_input(4, "official")
    np.testing.assert_allclose(official.apply(pixel), [2, 1])


@pytest.mark.parametrize("size", [(20, 50), (50, 20), (32, 32)])
def test_fit_rectangle(size: tuple[int, int]) -> None:
    affine = fit_rectangle(size, (64, 96))
    height, width = size
    middle = affine.apply(np.array([width / 2, height / 2]))
    np.testing.assert_allclose(middle, [48, 32])
    low, high = affine.apply(np.array([(0.0, 0.0), (width, height)]))
    assert (low >= -1e-9).all()
    assert (high <= np.array([96, 64]) + 1e-9).all()
    assert max((high - low) / (96, 64)) == pytest.approx(1)
    assert (high - low)[0] / (high - low)[1] == pytest.approx(width / height)


def _picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_warp_by_the_identity() -> None:
    np.testing.assert_array_equal(warp_image(_picture(9, 13), Affine.identity(), (9, 13)), _picture(9, 13))


def test_warp_flips_exactly() -> None:
    picture = _picture(9, 14)
    np.testing.assert_array_equal(
        warp_image(picture, Affine.horizontal_flip(14.0), (9, 14)), picture[:, ::-1]
    )


def test_warp_turns_exactly() -> None:
    picture = _picture(9, 9)
    turn = Affine.translation(9.0, 0.0) @ Affine.rotation(90.0)
    np.testing.assert_array_equal(warp_image(picture, turn, (9, 9)), np.rot90(picture, -1))


@pytest.mark.parametrize("factor", [2, 4])
def test_convention_resizing_is_align_corners_false(factor: int) -> None:
    picture = _picture(12, 10)
    warped = warp_image(picture, Affine.scaling(float(factor)), (12 * factor, 10 * factor))
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].double()
    expected = F.interpolate(tensor, scale_factor=factor, mode="bilinear", align_corners=False)[0]
    edge = factor  # PyTorch repeats the border, where this blends with the outside
    difference = expected.permute(1, 2, 0).numpy() - warped
    assert np.abs(difference[edge:-edge, edge:-edge]).max() <= 1


def test_warp_outside_is_the_border() -> None:
    warped = warp_image(_picture(4, 4), Affine.translation(100.0, 0.0), (6, 5), border=7)
    assert warped.shape == (6, 5, 3)
    assert (warped == 7).all()


@given(affine=affines(), seed=st.integers(0, 99))
def test_warped_mask_keeps_its_values(affine: Affine, seed: int) -> None:
    mask = np.random.default_rng(seed).choice(np.array([0, 255], dtype=np.uint8), (15, 17))
    warped: Any = warp_image(mask, affine, (20, 30), nearest=True)
    assert warped.shape == (20, 30)
    assert set(np.unique(warped)) <= {0, 255}


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (11, 15)])
def test_lit_pixel_moves_with_its_point(row: int, column: int) -> None:
    picture = np.zeros((12, 16), dtype=np.uint8)
    picture[row, column] = 255
    affine = Affine.translation(3.0, 5.0) @ Affine.horizontal_flip(64.0) @ Affine.scaling(4.0)
    warped = warp_image(picture, affine, (60, 72), nearest=True)
    x, y = affine.apply(np.array([column + 0.5, row + 0.5]))
    rows, columns = np.nonzero(warped)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (pytest.approx(y, abs=0.5), pytest.approx(x, abs=0.5))
    assert len(rows) == 16
