"""The appearance of training images changes; positions and the darkness outside the image do not."""

import numpy as np
import pytest

from swahr.data import PoseDataset, RandomAffine, RandomAppearance

_STILL = {"brightness": 0.0, "balance": 0.0, "gamma": 0.0, "saturation": 0.0, "blur": 0.0, "erased": 0}


def _image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(40, 60, 3), dtype=np.uint8)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_changes_an_image_stays_the_same() -> None:
    np.testing.assert_array_equal(RandomAppearance(**_STILL)(_image(), _rng()), _image())


@pytest.mark.parametrize(
    "change",
    [
        {"brightness": 0.5},
        {"balance": 0.3},
        {"gamma": 0.5},
        {"saturation": 0.5},
        {"blur": 2.0},
        {"erased": 3},
    ],
)
def test_each_change_alone_is_reproducible_and_leaves_its_input_alone(change: dict[str, float]) -> None:
    appearance, image = RandomAppearance(**_STILL | change), _image()
    changed = [appearance(image, _rng(seed)) for seed in (3, 3, 4, 5)]
    np.testing.assert_array_equal(image, _image())
    np.testing.assert_array_equal(changed[0], changed[1])
    assert any((each != image).any() for each in changed)


def test_black_stays_black_except_where_parts_are_erased() -> None:
    black = np.zeros((40, 60, 3), dtype=np.uint8)
    for seed in range(20):
        assert not RandomAppearance(erased=0)(black, _rng(seed)).any()
    share = np.mean([RandomAppearance()(black, _rng(seed)).any(axis=2).mean() for seed in range(200)])
    assert 0.01 < share < 0.06  # 1.5 rectangles on average, of 0.15 x 0.15 of the image


def test_brightness_is_a_factor_within_its_range() -> None:
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    appearance = RandomAppearance(**_STILL | {"brightness": 0.4})
    values = [appearance(image, _rng(seed))[0, 0, 0] for seed in range(200)]
    assert 59 <= min(values) < 65
    assert 135 < max(values) <= 140


def test_geometry_does_not_depend_on_the_appearance(numbered_source) -> None:
    source, augmentation = numbered_source(3), RandomAffine(input_size=32)
    plain = PoseDataset(source, augmentation, 0)[1, 2]
    changed = PoseDataset(source, augmentation, 0, RandomAppearance())[1, 2]
    np.testing.assert_array_equal(plain.input_from_image.matrix, changed.input_from_image.matrix)
    assert (plain.image != changed.image).any()


@pytest.mark.parametrize("change", [{"brightness": 1.5}, {"blur": -1.0}, {"erased": -1}])
def test_values_out_of_range(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}.*got"):
        RandomAppearance(**change)
