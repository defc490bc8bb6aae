"""Frames around people, and the image warped into them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.person_frame import person_frame
from swahr.second_stage import crop_people, frames_of_people
from swahr.skeleton import COCO
from swahr.structures import Poses

POINTS = st.lists(st.tuples(*[st.floats(-500, 2000)] * 2), min_size=1, max_size=17)
SIZES = st.tuples(*[st.sampled_from((64, 96, 128, 192, 256))] * 2)


def poses_at(points, *, scores=None):
    """One person; keypoints beyond the given points are missing."""
    keypoints, present = np.full((1, 17, 2), np.nan), np.zeros((1, 17), dtype=bool)
    keypoints[0, : len(points)], present[0, : len(points)] = np.reshape(points, (-1, 2)), True
    own = np.zeros((1, 17))
    own[0, : len(points)] = 1.0 if scores is None else scores
    return Poses(keypoints, own, own.mean(axis=1), present, COCO)


def test_a_tall_box_by_hand():
    """A box of 40 x 100, enlarged to 52 x 130, fills the height of a crop of 260 x 200: factor 2."""
    frame = person_frame(np.array([(10.0, 20.0), (50.0, 120.0)]), (260, 200), enlarge=1.3)
    np.testing.assert_allclose(frame.matrix, [[2, 0, 100 - 2 * 30], [0, 2, 130 - 2 * 70]])


def test_a_wide_box_by_hand():
    """A box of 100 x 40, enlarged by 2 to 200 x 80, fills the width of a crop of 64 x 100: factor 1/2."""
    frame = person_frame(np.array([(0.0, 0.0), (100.0, 40.0)]), (64, 100), enlarge=2.0)
    np.testing.assert_allclose(frame.matrix, [[0.5, 0, 50 - 25], [0, 0.5, 32 - 10]])


def test_a_single_keypoint_has_a_crop_of_32_pixels_about_it():
    (frame,) = frames_of_people(poses_at([(100.0, 60.0)]), (128, 96))
    assert frame is not None
    np.testing.assert_allclose(frame.apply(np.array([(100.0, 60.0), (116.0, 60.0)])), [(48, 64), (96, 64)])


@settings(max_examples=100, deadline=None)
@given(points=POINTS, size=SIZES, enlarge=st.floats(1.0, 2.0))
def test_crop_and_back_is_the_identity_and_the_box_is_inside(points, size, enlarge):
    points = np.array(points)
    frame = person_frame(points, size, enlarge=enlarge)
    inside = frame.apply(points)
    np.testing.assert_allclose(frame.inverse().apply(inside), points, atol=1e-6)
    assert (inside >= -1e-6).all()
    assert (inside <= np.array(size[::-1]) + 1e-6).all()
    assert frame.matrix[0, 0] == frame.matrix[1, 1] > 0  # lengths are not distorted
    np.testing.assert_allclose(
        (inside.min(axis=0) + inside.max(axis=0)) / 2, np.array(size[::-1]) / 2, atol=1e-6
    )


def test_keypoints_of_low_score_do_not_count_for_the_box_unless_all_have():
    points = [(10.0, 20.0), (50.0, 120.0), (900.0, 900.0)]
    (expected,) = frames_of_people(poses_at(points[:2]), (128, 96))
    (found,) = frames_of_people(poses_at(points, scores=[0.5, 0.2, 0.1]), (128, 96), box_threshold=0.1)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    (everything,) = frames_of_people(poses_at(points), (128, 96))
    (found,) = frames_of_people(poses_at(points, scores=[0.1, 0.1, 0.1]), (128, 96), box_threshold=0.1)
    np.testing.assert_array_equal(found.matrix, everything.matrix)
    assert frames_of_people(poses_at([]), (128, 96)) == [None]
    assert frames_of_people(Poses.nobody(COCO), (128, 96)) == []


def test_people_of_images_of_several_sizes_make_one_batch():
    images = [np.zeros((h, w, 3), dtype=np.uint8) for h, w in ((120, 80), (200, 100))]
    images[0][10:90, 20:60, 0], images[1][100:180, 20:60, 2] = 255, 255
    frames = [
        person_frame(np.array([(20.0, top), (60.0, top + 80)]), (64, 32), enlarge=1.0)
        for top in (10.0, 100.0)
    ]
    crops = crop_people(images, frames, (64, 32))
    assert crops.shape == (2, 3, 64, 32)
    assert crops.is_contiguous()
    assert (crops[0, 0, 1:-1, 1:-1] == 255).all()  # the box fills the crop
    assert (crops[1, 2, 1:-1, 1:-1] == 255).all()
    assert not crops[0, 1:].any()


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_convention_a_lit_pixel_is_where_the_frame_says(size):
    image = np.zeros((100, 120, 3), dtype=np.uint8)
    image[40, 70] = 255
    frame = person_frame(np.array([(50.0, 20.0), (90.0, 70.0)]), size, enlarge=1.3)
    light = crop_people([image], [frame], size)[0, 0].double().numpy()
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    centre = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    np.testing.assert_allclose(centre, frame.apply(np.array([70.5, 40.5])), atol=0.05)
