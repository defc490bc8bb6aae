import itertools
import pickle
import time

import numpy as np
import pytest

from swahr.data.source import Source
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import ABSENT
from swahr.synthetic import KNOWN_KEYPOINTS, SyntheticSource

FULL = {
    "image_size": (320, 384),
    "people": (1, 12),
    "person_height": (0.5, 1.2),
    "height_spread": 10.0,
    "unusual_poses": 0.1,
    "objects": (0, 6),
    "clutter": (0, 20),
    "blur": 2.0,
    "noise": 16.0,
    "jpeg_quality": (25, 95),
}


def test_is_an_unbounded_source():
    source = SyntheticSource(size=3)
    assert isinstance(source, Source)
    assert source.unbounded
    assert len(source) == 3
    assert source[10_000].image_id == 10_001
    assert [image.image_id for image in source] == [1, 2, 3]
    assert "17" in source.describe(17)


def test_same_seed_and_index_give_the_same_image_in_any_order_and_copy():
    first = SyntheticSource(size=4, seed=5, **FULL)
    second = pickle.loads(pickle.dumps(SyntheticSource(size=4, seed=5, **FULL)))
    second[3], second[0]
    for index in (2, 0):
        a, b = first[index], second[index]
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.annotations.keypoints, b.annotations.keypoints)
        assert np.array_equal(a.annotations.visibility, b.annotations.visibility)


def test_other_indices_and_seeds_give_other_images():
    images = [SyntheticSource(size=3, seed=seed)[index].image for seed in (0, 1) for index in range(3)]
    for a, b in itertools.combinations(images, 2):
        assert np.abs(a.astype(int) - b).mean() > 10


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE])
def test_annotations_are_consistent(skeleton):
    source = SyntheticSource(size=15, seed=2, skeleton=skeleton, **FULL)
    for index in range(8):
        sample = source[index]
        people = sample.annotations
        height, width = sample.image.shape[:2]
        assert (height, width) == FULL["image_size"]
        assert sample.image.dtype == np.uint8
        assert people.keypoints.shape == (len(people), skeleton.num_keypoints, 2)
        assert len(people) <= 12
        assert (people.area > 0).all()
        assert (people.visibility != ABSENT).any(axis=1).all()
        labelled = people.keypoints[people.visibility != ABSENT]
        assert (labelled >= 0).all()
        assert (labelled < (width, height)).all()
        assert (people.keypoints[people.visibility == ABSENT] == 0).all()


def test_people_of_one_image_differ_in_height_up_to_the_spread():
    def ratios(spread: float) -> list[float]:
        settings = FULL | {"height_spread": spread, "people": (6, 6), "objects": (0, 0), "unusual_poses": 0.0}
        found = []
        for index in range(40):
            points = SyntheticSource(size=1, **settings)[index].annotations
            heads = np.linalg.norm(
                points.keypoints[:, 5:7].mean(1) - points.keypoints[:, 11:13].mean(1), axis=1
            )
            whole = (points.visibility[:, [5, 6, 11, 12]] != ABSENT).all(axis=1)
            found.append(heads[whole].max() / heads[whole].min())
        return found

    assert max(ratios(10.0)) > 6
    assert max(ratios(1.0)) < 1.6


def test_person_height_is_relative_to_the_image():
    def boxes(height: float) -> float:
        source = SyntheticSource(size=12, people=(1, 1), person_height=(height, height), height_spread=1.0)
        return float(np.median([a["bbox"][3] for a in source.ground_truth()["annotations"]]))

    assert boxes(0.8) == pytest.approx(2 * boxes(0.4), rel=0.15)


def test_a_custom_skeleton_may_name_any_landmark():
    skeleton = Skeleton.from_dict(
        {"name": "sticks", "keypoints": ["head", "pelvis", "left_hand", "right_toe"]}
    )
    source = SyntheticSource(size=1, seed=1, skeleton=skeleton)
    everything = SyntheticSource(
        size=1, seed=1, skeleton=Skeleton.from_dict({"keypoints": list(KNOWN_KEYPOINTS)})
    )
    columns = [KNOWN_KEYPOINTS.index(name) for name in skeleton.keypoints]
    few, many = source.scene(0), everything.scene(0)
    assert np.array_equal(few.image, many.image)
    assert np.array_equal(few.keypoints, many.keypoints[: len(few.keypoints), columns])


def test_unknown_keypoints_are_named_together_with_the_known_ones():
    tail = Skeleton.from_dict({"name": "cat", "keypoints": ["nose", "tail"]})
    with pytest.raises(ValueError, match=r"\['tail'\] of skeleton 'cat'.*left_wrist"):
        SyntheticSource(size=1, skeleton=tail)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"people": (3, 1)}, "people"),
        ({"objects": (-1, 1)}, "objects"),
        ({"person_height": (0.0, 0.5)}, "person_height"),
        ({"height_spread": 0.5}, "height_spread"),
        ({"image_size": (8, 8)}, "image_size"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"noise": -1.0}, "noise"),
        ({"person_height": None}, "person_height"),
        ({"layouts": "people.json"}, "person_height"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSource(size=1, **settings)


def test_negative_indices_are_refused():
    with pytest.raises(IndexError, match="-1"):
        SyntheticSource(size=1)[-1]


def test_an_image_without_people_is_empty():
    sample = SyntheticSource(size=1, people=(0, 0), objects=(2, 2))[0]
    assert sample.annotations.keypoints.shape == (0, 17, 2)
    assert sample.valid.all()


@pytest.mark.parametrize("size", [(40, 60), (1100, 64)])
def test_any_image_size(size):
    assert SyntheticSource(size=1, image_size=size, noise=20.0)[0].image.shape == (*size, 3)


def test_rendering_does_not_hold_up_training():
    source = SyntheticSource(size=20)
    source[0]
    start = time.process_time()
    for index in range(20):
        source[index]
    assert (time.process_time() - start) / 20 < 0.08
