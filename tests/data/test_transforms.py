"""Images, masks and keypoints move together through the augmentation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.data import RandomAffine
from swahr.data.transforms import input_from_window, transform_annotations
from swahr.geometry import Affine
from swahr.skeleton import COCO, Skeleton
from swahr.structures import Annotations, LabelledImage

PUPPET = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"]})


def _labelled(
    size: tuple[int, int], points: list[tuple[float, float]], image: np.ndarray | None = None
) -> LabelledImage:
    """One person; the keypoints beyond the given points are absent."""
    keypoints = np.zeros((1, 3, 2))
    keypoints[0, : len(points)] = points
    visibility = np.array([[2] * len(points) + [0] * (3 - len(points))], dtype=np.int64)
    return LabelledImage(
        image=np.zeros((*size, 3), dtype=np.uint8) if image is None else image,
        annotations=Annotations(keypoints, visibility, np.array([1000.0])),
        valid=np.ones(size, dtype=bool),
        image_id=1,
    )


def _augmentation(**changes: Any) -> RandomAffine:
    still = {"rotation": 0.0, "scaling": (1.0, 1.0), "translation": 0.0, "flip": 0.0}
    return RandomAffine(**{"input_size": 64} | still | changes)


def test_published_matrices(golden_arrays) -> None:
    for row in golden_arrays("e_geometry.npz")["train_affine"]:
        x, y, person_scale, size, rotation = row[:5].tolist()
        affine = input_from_window((x, y), 200 * person_scale, int(size), rotation)
        np.testing.assert_allclose(affine.matrix, row[5:11].reshape(2, 3), rtol=1e-6, atol=1e-6)


def test_without_randomness_the_short_side_fills_the_input() -> None:
    sample = _augmentation()(
        _labelled((32, 64), [(16, 0), (47.5, 31.5), (32, 16)]), skeleton=PUPPET, rng=_rng()
    )
    np.testing.assert_allclose(sample.annotations.keypoints[0], [(0, 0), (63, 63), (32, 32)])
    assert sample.annotations.area[0] == pytest.approx(4000)
    assert sample.valid.all()


def test_long_side() -> None:
    augmentation = _augmentation(scaling_reference="long")
    sample = augmentation(_labelled((32, 64), [(0, 0), (32, 16), (63.5, 31.5)]), skeleton=PUPPET, rng=_rng())
    np.testing.assert_allclose(sample.annotations.keypoints[0], [(0, 16), (32, 32), (63.5, 47.5)])
    np.testing.assert_array_equal(sample.valid.any(axis=1), [16 <= row < 48 for row in range(64)])


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(60, 160), st.integers(60, 160)),
    place=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
)
def test_lit_pixel_and_keypoint_move_together(
    seed: int, size: tuple[int, int], place: tuple[float, float]
) -> None:
    row, column = int(size[0] * place[0]), int(size[1] * place[1])
    y, x = np.mgrid[: size[0], : size[1]]
    spot = 255 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * 2.5**2))
    image = np.repeat(spot.astype(np.uint8)[..., None], 3, axis=-1)
    labelled = _labelled(size, [(column + 0.5, row + 0.5)], image)
    sample = RandomAffine(input_size=128)(labelled, skeleton=PUPPET, rng=_rng(seed))
    if len(sample.annotations) == 0:
        return
    flipped = sample.input_from_image.area_ratio < 0
    present = sample.annotations.visibility[0] > 0
    assert present.tolist() == [not flipped, flipped, False]
    point = sample.annotations.keypoints[0][present][0]
    np.testing.assert_allclose(point, sample.input_from_image.apply(labelled.annotations.keypoints[0, :1])[0])
    reach = 9 * sample.input_from_image.length_ratio
    if (point < reach).any() or (point > 128 - reach).any():  # part of the spot is outside
        return
    light = sample.image[..., 0].astype(np.float64)
    y, x = np.mgrid[:128, :128] + 0.5
    centre = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    np.testing.assert_allclose(centre, point, atol=0.05)
    expected = image[..., 0].sum() * abs(sample.input_from_image.area_ratio)
    assert light.sum() == pytest.approx(expected, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_mask_moves_with_the_image(seed: int) -> None:
    """A masked white square on black: what is lit is masked, and the outside is masked too."""
    labelled = _labelled((100, 120), [(1, 1)], np.zeros((100, 120, 3), dtype=np.uint8))
    labelled.image[30:70, 40:90] = 255
    labelled.valid[30:70, 40:90] = False
    sample = RandomAffine(input_size=96)(labelled, skeleton=PUPPET, rng=_rng(seed))
    y, x = np.mgrid[:96, :96] + 0.5
    source = sample.input_from_image.inverse().apply(np.stack([x, y], axis=-1))
    margin = 1.0  # pixels of the image, about the edges of the regions
    inside = ((source > margin) & (source < np.array([120, 100]) - margin)).all(axis=-1)
    hole = ((source > np.array([40, 30]) - margin) & (source < np.array([90, 70]) + margin)).all(axis=-1)
    core = ((source > np.array([40, 30]) + margin) & (source < np.array([90, 70]) - margin)).all(axis=-1)
    outside = ((source < -margin) | (source > np.array([120, 100]) + margin)).any(axis=-1)
    assert sample.valid[inside & ~hole].all()
    assert not sample.valid[core].any()
    assert not sample.valid[outside].any()
    assert (sample.image[core] == 255).all()


def test_flipping_twice_changes_nothing() -> None:
    rng = _rng()
    people = Annotations(
        keypoints=rng.uniform(1, 63, (5, 17, 2)),
        visibility=np.c_[np.ones((5, 1)), rng.integers(0, 3, (5, 16))].astype(np.int64),
        area=rng.uniform(10, 100, 5),
    )
    flip = Affine.horizontal_flip(64.0)
    once = transform_annotations(people, flip, (64, 64), COCO)
    twice = transform_annotations(once, flip, (64, 64), COCO)
    np.testing.assert_allclose(twice.keypoints, people.keypoints)
    np.testing.assert_array_equal(twice.visibility, people.visibility)
    np.testing.assert_array_equal(twice.area, people.area)
    left, right = COCO.keypoints.index("left_wrist"), COCO.keypoints.index("right_wrist")
    np.testing.assert_allclose(once.keypoints[:, left, 0], 64 - people.keypoints[:, right, 0])


def test_flipped_sample_is_the_mirror_image() -> None:
    rng = _rng()
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sample = _augmentation(flip=1.0)(_labelled((64, 64), [(10, 20)], image), skeleton=PUPPET, rng=rng)
    np.testing.assert_array_equal(sample.image, image[:, ::-1])
    np.testing.assert_allclose(sample.annotations.keypoints[0, 1], (54, 20))


def test_convention_keypoints_outside_are_absent_and_people_without_any_are_dropped() -> None:
    people = Annotations(
        keypoints=np.array(
            [[(0.0, 0), (64, 1), (1, 64)], [(-0.01, 5), (5, -0.01), (63.9, 63.9)], [(99, 99)] * 3]
        ),
        visibility=np.array([[1, 2, 2], [2, 2, 0], [2, 2, 2]], dtype=np.int64),
        area=np.array([1.0, 2.0, 3.0]),
    )
    moved = transform_annotations(people, Affine.identity(), (64, 64), PUPPET)
    np.testing.assert_array_equal(moved.visibility, [(1, 0, 0)])
    np.testing.assert_array_equal(moved.area, [1.0])
    nobody = transform_annotations(people, Affine.translation(500.0, 0.0), (64, 64), PUPPET)
    assert nobody.keypoints.shape == (0, 3, 2)


def test_ranges_are_used_up_and_not_exceeded() -> None:
    augmentation = RandomAffine(input_size=200)
    rng = _rng()
    drawn = [augmentation._sample((400, 600), rng) for _ in range(2000)]
    window = np.array([400 / (200 / affine.length_ratio) for affine in drawn])  # 1 / scaling
    assert 1 / window.max() == pytest.approx(0.75, abs=0.01)
    assert 1 / window.min() == pytest.approx(1.5, abs=0.01)
    mirrored = np.array([affine.area_ratio < 0 for affine in drawn])
    assert mirrored.mean() == pytest.approx(0.5, abs=0.05)
    unflipped = [affine.matrix for affine, mirror in zip(drawn, mirrored, strict=True) if not mirror]
    angles = np.degrees([np.arctan2(matrix[1, 0], matrix[0, 0]) for matrix in unflipped])
    assert (angles.min(), angles.max()) == (pytest.approx(-30, abs=0.5), pytest.approx(30, abs=0.5))
    # The middle of the image moves by up to 40 / 200 of the window: 40 of the input's 200 pixels, turned.
    moved = np.array([affine.apply(np.array([300.0, 200.0])) - 100 for affine in drawn])
    assert 40 < np.abs(moved).max() <= 40 * 2**0.5
    assert np.abs(moved.mean(axis=0)).max() < 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 0}, "positive input_size"),
        ({"scaling": (1.5, 0.75)}, r"\(1.5, 0.75\)"),
        ({"scaling": (1.0,)}, "minimum, maximum"),
        ({"flip": 1.5}, "probability in"),
        ({"rotation": -1.0}, "rotation and translation >= 0"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _augmentation(**changes)


def test_an_image_of_one_pixel() -> None:
    augmentation = _augmentation(rotation=30.0, scaling=(0.75, 1.5), translation=40.0, flip=0.5)
    for seed in range(20):
        sample = augmentation(_labelled((1, 1), [(0.5, 0.5)]), skeleton=PUPPET, rng=_rng(seed))
        assert sample.image.shape == (64, 64, 3)
        assert np.isfinite(sample.annotations.keypoints).all()
