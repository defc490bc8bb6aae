"""Random crops: image, mask and the one person who is annotated move together."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.data import PoseDataset, RandomPersonCrop, collate
from swahr.person_frame import person_frame
from swahr.second_stage import PoseErrors, ProposalBoxes
from swahr.second_stage.proposals import Mixture
from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage
from swahr.synthetic import SyntheticSource

PUPPET = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"]})
TWO = [[(30.5, 50.5), (60.5, 52.5), (45.5, 20.5)], [(90.5, 80.5), (110.5, 82.5), (100.5, 60.5)]]


def labelled(people: Any = TWO, *, seen: Any = None, size: tuple[int, int] = (120, 140)) -> LabelledImage:
    keypoints = np.array(people, dtype=np.float64).reshape(-1, 3, 2)
    visibility = np.full(keypoints.shape[:2], 2) if seen is None else np.array(seen)
    image = np.zeros((*size, 3), dtype=np.uint8)
    for person in keypoints:
        for channel, (x, y) in enumerate(person):
            image[int(y), int(x), channel] = 255
    return LabelledImage(
        image,
        Annotations(keypoints, visibility, np.full(len(keypoints), 900.0)),
        np.ones(size, dtype=bool),
        1,
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def still(**changes: Any) -> RandomPersonCrop:
    settings = {"rotation": 0.0, "scaling": (1.0, 1.0), "shift": 0.0, "flip": 0.0}
    return RandomPersonCrop(**{"input_size": (64, 96)} | settings | changes)


def test_without_randomness_the_frame_is_that_of_the_test_and_each_person_has_a_turn() -> None:
    chosen = set()
    for seed in range(20):
        sample = still(enlarge=1.5)(labelled(), skeleton=PUPPET, rng=rng(seed))
        assert sample.image.shape == (64, 96, 3)
        assert len(sample.annotations) == 1
        back = sample.input_from_image.inverse().apply(sample.annotations.keypoints[0])
        (person,) = (i for i, own in enumerate(TWO) if np.allclose(back, own))
        expected = person_frame(np.array(TWO[person]), (64, 96), enlarge=1.5)
        np.testing.assert_allclose(sample.input_from_image.matrix, expected.matrix, atol=1e-9)
        chosen.add(person)
    assert chosen == {0, 1}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_light_and_keypoints_move_together(seed: int) -> None:
    """Each keypoint lit in a channel of its own; a flip swaps the hands."""
    source = labelled(TWO[:1])
    sample = RandomPersonCrop((96, 64))(source, skeleton=PUPPET, rng=rng(seed))
    flipped = sample.input_from_image.area_ratio < 0
    for keypoint, channel in enumerate((1, 0, 2) if flipped else (0, 1, 2)):
        point = sample.annotations.keypoints[0, keypoint]
        if not sample.annotations.visibility[0, keypoint] or (point < 6).any() or (point > (58, 90)).any():
            continue
        light = sample.image[..., channel].astype(np.float64)
        y, x = np.mgrid[:96, :64] + 0.5
        centre = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
        np.testing.assert_allclose(centre, point, atol=0.2)
    assert sample.annotations.area[0] == pytest.approx(900 * abs(sample.input_from_image.area_ratio))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_jitter_stays_within_its_limits(seed: int) -> None:
    augmentation = RandomPersonCrop(64, rotation=20.0, scaling=(0.5, 2.0), shift=0.2, flip=0.5)
    sample = augmentation(labelled(TWO[:1]), skeleton=PUPPET, rng=rng(seed))
    plain = person_frame(np.array(TWO[0]), (64, 64), enlarge=1.3)
    ratio = sample.input_from_image.length_ratio / plain.length_ratio
    assert 1 / 2 - 1e-9 <= ratio <= 2 + 1e-9
    middle = plain.inverse().apply(np.array([32.0, 32.0]))
    assert (np.abs(sample.input_from_image.apply(middle) - 32) <= 0.2 * 64 + 1e-9).all()


def test_outside_the_image_nothing_is_valid() -> None:
    sample = still(input_size=64, enlarge=6.0)(labelled(TWO[:1]), skeleton=PUPPET, rng=rng())
    y, x = np.mgrid[:64, :64] + 0.5
    source = sample.input_from_image.inverse().apply(np.stack([x, y], axis=-1))
    inside = ((source > 2) & (source < (138, 118))).all(axis=-1)
    outside = ((source < -2) | (source > (142, 122))).any(axis=-1)
    assert outside.any()
    assert sample.valid[inside].all()
    assert not sample.valid[outside].any()


def test_people_with_few_annotated_keypoints_are_not_chosen() -> None:
    source = labelled(seen=[[2, 2, 2], [2, 1, 0]])
    for seed in range(20):
        sample = still()(source, skeleton=PUPPET, rng=rng(seed))
        assert sample.annotations.visibility.tolist() == [[2, 2, 2]]
    found = {
        tuple(
            still(min_keypoints=2)(source, skeleton=PUPPET, rng=rng(seed)).annotations.visibility[0].tolist()
        )
        for seed in range(20)
    }
    assert found == {(2, 2, 2), (2, 1, 0)}


@pytest.mark.parametrize("source", [labelled([]), labelled(seen=[[2, 2, 0], [0, 0, 0]])])
def test_an_image_without_a_suitable_person_teaches_nothing(source: LabelledImage) -> None:
    sample = still()(source, skeleton=PUPPET, rng=rng())
    assert len(sample.annotations) == 0
    assert not sample.valid.any()
    batch = collate([sample])
    assert batch.keypoints.shape == (1, 0, 3, 2)


def test_samples_depend_on_seed_epoch_and_index_only() -> None:
    source = SyntheticSource(size=3, seed=0, image_size=(64, 64), people=(2, 3))
    first, again = (PoseDataset(source, RandomPersonCrop((64, 32)), seed=5) for _ in range(2))
    for key in ((0, 0), (1, 2)):
        np.testing.assert_array_equal(first[key].image, again[key].image)
    batch = collate([first[0, 0], first[0, 1]])
    assert batch.images.shape == (2, 3, 64, 32)
    assert batch.keypoints.shape == (2, 1, 17, 2)


UPRIGHT, LYING = np.array([(0.0, 0), (1, 0), (0.5, 2)]), np.array([(0.0, 0), (0, 1), (2, 0.5)])
OFFSETS = np.array([[-0.2, -0.1, 0.3, 0.1], [0.1, 0.2, -0.1, -0.2]])


def proposals(deviation: float = 1e-6) -> ProposalBoxes:
    """Boxes of upright people are larger, those of lying people smaller."""
    poses = np.stack([UPRIGHT, LYING])
    aligned = (poses - (poses.min(axis=1) + poses.max(axis=1))[:, None] / 2) / 2
    mixtures = tuple(Mixture(10, np.ones(1), one[None], deviation**2 * np.eye(4)[None]) for one in OFFSETS)
    return ProposalBoxes(PUPPET.keypoints, 1.0, np.zeros((3, 2)), aligned, mixtures)


@pytest.mark.parametrize(
    ("pose", "box"),
    [(20 + 20 * UPRIGHT, (16, 16, 46, 64)), (20 + 20 * LYING, (24, 24, 56, 36))],  # 20 x 40; 40 x 20
)
def test_planted_offsets_frame_the_person_in_place_of_scaling_and_shift(pose: Any, box: Any) -> None:
    augmentation = RandomPersonCrop(64, enlarge=2.0, rotation=0.0, flip=0.0, boxes=proposals())
    for seed in range(3):
        sample = augmentation(labelled([pose]), skeleton=PUPPET, rng=rng(seed))
        expected = person_frame(np.reshape(box, (2, 2)).astype(np.float64), (64, 64), enlarge=2.0)
        np.testing.assert_allclose(sample.input_from_image.matrix, expected.matrix, atol=1e-2)
        np.testing.assert_allclose(sample.annotations.keypoints[0], expected.apply(pose), atol=0.05)


def test_frames_have_the_planted_moments_and_absent_keypoints_do_not_count() -> None:
    augmentation = RandomPersonCrop(
        64, enlarge=2.0, rotation=0.0, flip=0.0, min_keypoints=2, boxes=proposals(0.05)
    )
    pose = 20 + 20 * UPRIGHT
    source = labelled([[pose[0], (100.0, 100.0), pose[2]]], seen=[[2, 0, 2]])  # a box of 10 x 40
    centres = []
    for seed in range(400):
        frame = augmentation(source, skeleton=PUPPET, rng=rng(seed)).input_from_image
        centres.append(frame.inverse().apply(np.array([32.0, 32.0])))
    expected = np.array([25, 40]) + OFFSETS[0].reshape(2, 2).mean(axis=0) * (10, 40)
    np.testing.assert_allclose(np.mean(centres, axis=0), expected, atol=0.2)
    np.testing.assert_allclose(np.std(centres, axis=0), 0.05 / np.sqrt(2) * np.array([10, 40]), rtol=0.15)


def test_sampled_boxes_are_rotated_and_flipped() -> None:
    augmentation = RandomPersonCrop(64, rotation=20.0, flip=0.5, boxes=proposals())
    frames = [
        augmentation(labelled([20 + 20 * UPRIGHT]), skeleton=PUPPET, rng=rng(seed)).input_from_image
        for seed in range(20)
    ]
    assert len({frame.area_ratio > 0 for frame in frames}) == 2
    assert len({round(float(frame.matrix[1, 0]), 3) for frame in frames}) > 10
    np.testing.assert_allclose([frame.length_ratio for frame in frames], 64 / (1.3 * 48), rtol=1e-3)


def test_boxes_for_other_keypoints_are_refused() -> None:
    other = Skeleton.from_dict({"name": "other", "keypoints": ["head", "left_hand", "right_hand"]})
    with pytest.raises(ValueError, match=r"boxes: expected boxes for the keypoints of skeleton 'other'"):
        still(boxes=proposals())(labelled(), skeleton=other, rng=rng())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (64, 64, 3)}, "expected input_size = "),
        ({"input_size": 0}, "expected input_size = "),
        ({"enlarge": 0.0}, "enlarge > 0"),
        ({"scaling": (1.2, 0.8)}, "expected scaling = "),
        ({"min_keypoints": 0}, "min_keypoints >= 1"),
        ({"flip": 1.5}, "flip probability"),
        ({"shift": -0.1}, "rotation and shift >= 0"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomPersonCrop(**{"input_size": 64} | changes)


EXACT = PoseErrors(inversion=0.0, swap=0.0, jitter=0.0, miss=0.0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_condition_has_the_crops_frame_and_sides(flip: float) -> None:
    source = labelled(seen=[[2, 1, 0], [2, 2, 2]])
    sample = RandomPersonCrop(64, flip=flip, min_keypoints=2, condition=EXACT)(
        source, skeleton=PUPPET, rng=rng(3)
    )
    assert (sample.input_from_image.area_ratio < 0) == bool(flip)
    assert sample.condition is not None
    seen = sample.annotations.visibility[0] != 0
    np.testing.assert_allclose(sample.condition[seen], sample.annotations.keypoints[0][seen])
    assert np.isnan(sample.condition[~seen]).all()


def test_neighbours_are_known_to_the_condition() -> None:
    near = np.array(TWO[0]) + np.array([4.0, 2.0])
    swapped = still(condition=PoseErrors(inversion=0.0, swap=1.0, jitter=0.0, miss=0.0))
    sample = swapped(labelled([TWO[0], near]), skeleton=PUPPET, rng=rng())
    back = sample.input_from_image.inverse()
    own, shown = back.apply(sample.annotations.keypoints[0]), back.apply(sample.condition)
    np.testing.assert_allclose(np.abs(shown - own), [[4.0, 2.0]] * 3)


def test_without_a_condition_nothing_changes() -> None:
    """The condition's random numbers come after all others, and without one none are drawn."""
    plain, same, errors = (rng(5) for _ in range(3))
    expected = RandomPersonCrop(64)(labelled(), skeleton=PUPPET, rng=plain)
    assert expected.condition is None
    assert len(collate([expected]).inputs) == 1
    RandomPersonCrop(64, condition=lambda people, person, **_: people[person])(
        labelled(), skeleton=PUPPET, rng=same
    )
    assert plain.random() == same.random()
    found = RandomPersonCrop(64, condition=PoseErrors())(labelled(), skeleton=PUPPET, rng=errors)
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.annotations.keypoints, expected.annotations.keypoints)


def test_conditions_depend_on_seed_epoch_and_index_only_and_are_batched() -> None:
    source = SyntheticSource(size=4, seed=1, image_size=(64, 64), people=(2, 3))
    augmentation = RandomPersonCrop(64, condition=PoseErrors())
    one, other = (PoseDataset(source, augmentation, seed=2) for _ in range(2))
    other[0, 3]
    keys = [(0, 1), (0, 2), (1, 1)]
    samples, again = [one[key] for key in keys], [other[key] for key in keys[::-1]][::-1]
    for sample, same in zip(samples, again, strict=True):
        np.testing.assert_array_equal(sample.condition, same.condition)
    batch = collate(samples)
    images, condition = batch.to(torch.device("cpu")).inputs
    assert torch.equal(images, batch.images)
    np.testing.assert_allclose(
        condition.numpy(), np.stack([sample.condition for sample in samples]), rtol=1e-6
    )


def test_without_a_suitable_person_the_condition_is_empty() -> None:
    sample = still(condition=EXACT)(labelled([]), skeleton=PUPPET, rng=rng())
    assert sample.condition is not None
    assert sample.condition.shape == (3, 2)
    assert np.isnan(sample.condition).all()
