"""Poses and annotations over images, judged by their pixels."""

import numpy as np
import pytest

from swahr.draw import count_drawn, draw_annotations, draw_poses
from swahr.draw.palette import keypoint_colours, person_colour
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import ABSENT, OCCLUDED, VISIBLE, Annotations, Poses

NINE = Skeleton.from_dict({"name": "nine", "keypoints": [f"point_{i}" for i in range(9)]})
CHAIN = Skeleton.from_dict({"name": "chain", "keypoints": ["a", "b", "c"], "limbs": [["a", "b"], ["b", "c"]]})


def grey(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 90, dtype=np.uint8)


def poses_of(points: np.ndarray, skeleton: Skeleton, scores: np.ndarray | None = None) -> Poses:
    """People with all keypoints present, unless a coordinate is NaN."""
    present = ~np.isnan(points).any(-1)
    scores = np.where(present, 0.9, 0.0) if scores is None else scores
    return Poses(points, scores, scores.mean(1), present, skeleton)


def spread_out(skeleton: Skeleton, people: int = 1) -> np.ndarray:
    """Keypoints on a grid, far enough apart that no dot covers another."""
    count = people * skeleton.num_keypoints
    grid = np.stack(np.meshgrid(np.arange(15.5, 150, 16), np.arange(12.5, 110, 16)), axis=-1).reshape(-1, 2)
    return grid[:count].reshape(people, skeleton.num_keypoints, 2)


def pixel(image: np.ndarray, point: np.ndarray) -> tuple[int, ...]:
    return tuple(int(channel) for channel in image[int(point[1]), int(point[0])])


def changed(image: np.ndarray) -> np.ndarray:
    return (image != grey(*image.shape[:2])).any(-1)


def test_a_keypoint_has_its_persons_colour_at_its_position() -> None:
    points = spread_out(NINE, people=3)
    drawn = draw_poses(grey(), poses_of(points, NINE))
    for person in range(3):
        assert {pixel(drawn, point) for point in points[person]} == {person_colour(person)}


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE])
def test_left_is_lighter_and_right_is_darker_than_the_middle(skeleton: Skeleton) -> None:
    points = spread_out(skeleton)
    drawn = draw_poses(grey(), poses_of(points, skeleton))
    light = {
        name: sum(pixel(drawn, point)) for name, point in zip(skeleton.keypoints, points[0], strict=True)
    }
    for left, right in skeleton.flip_pairs:
        assert light[left] > sum(person_colour(0)) > light[right]


def test_a_limb_joins_its_keypoints_and_no_others() -> None:
    points = np.array([[[20.5, 20.5], [80.5, 20.5], [80.5, 80.5]]])
    touched = changed(draw_poses(grey(), poses_of(points, CHAIN)))
    assert touched[20, 50]
    assert touched[50, 80]
    assert not touched[50, 50]  # a and c are not connected


def test_without_limbs_there_are_only_dots() -> None:
    points = spread_out(NINE)
    touched = changed(draw_poses(grey(), poses_of(points, NINE)))
    between = (points[0, :-1] + points[0, 1:]) / 2
    near = between[np.abs(np.diff(points[0], axis=0)).sum(1) < 20]
    assert len(near) > 5
    assert not any(touched[int(y), int(x)] for x, y in near)


def test_nothing_is_drawn_for_nobody_and_the_image_is_a_copy() -> None:
    image = grey()
    nobody = Poses(np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0), np.zeros((0, 17), dtype=bool), COCO)
    drawn = draw_poses(image, nobody)
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_image_is_not_changed() -> None:
    image = grey()
    draw_poses(image, poses_of(spread_out(COCO), COCO))
    assert np.array_equal(image, grey())


def test_missing_keypoints_are_left_out_with_their_limbs() -> None:
    points = np.array([[[20.5, 20.5], [np.nan, np.nan], [80.5, 80.5]]])
    touched = changed(draw_poses(grey(), poses_of(points, CHAIN)))
    assert touched[20, 20]
    assert touched[80, 80]
    touched[10:31, 10:31] = touched[70:91, 70:91] = False
    assert not touched.any()


def test_thresholds_leave_out_keypoints_and_people() -> None:
    points = spread_out(CHAIN, people=2)
    poses = poses_of(points, CHAIN, np.array([[0.9, 0.9, 0.2], [0.1, 0.1, 0.1]]))
    by_keypoint = draw_poses(grey(), poses, threshold=0.15)
    assert changed(by_keypoint)[int(points[0, 2, 1]), int(points[0, 2, 0])]
    assert not changed(by_keypoint)[int(points[1, 0, 1]), int(points[1, 0, 0])]
    by_person = draw_poses(grey(), poses, person_threshold=0.15)
    assert np.array_equal(by_person, by_keypoint)
    assert not changed(draw_poses(grey(), poses, threshold=0.95)).any()


def test_keypoints_with_low_scores_are_not_drawn_by_default() -> None:
    points = spread_out(CHAIN, people=2)
    poses = poses_of(points, CHAIN, np.array([[0.9, 0.9, 0.05], [0.09, 0.09, 0.09]]))
    usual, everything = draw_poses(grey(), poses), draw_poses(grey(), poses, threshold=0, person_threshold=0)
    for x, y in (points[0, 2], points[1, 0]):
        assert changed(everything)[int(y), int(x)]
        assert not changed(usual)[int(y), int(x)]
    assert count_drawn(poses) == 1
    assert count_drawn(poses, threshold=0, person_threshold=0) == 2


def test_low_scores_are_thinner() -> None:
    points = np.array([[[20.5, 300.5], [400.5, 300.5], [780.5, 300.5]]])
    everywhere = [
        changed(draw_poses(grey(600, 800), poses_of(points, CHAIN, np.full((1, 3), score)))).sum()
        for score in (0.9, 0.15)
    ]
    assert 0 < everywhere[1] < 0.7 * everywhere[0]


def test_larger_people_have_wider_limbs() -> None:
    far, near = (
        np.array([[[200.5, 300.5 - reach], [200.5, 300.5], [200.5, 300.5 + reach]]]) for reach in (40, 290)
    )
    widths = [
        changed(draw_poses(grey(600, 800), poses_of(points, CHAIN)))[280].sum() for points in (far, near)
    ]
    assert widths[1] > widths[0] > 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (1200, 40)])
def test_any_image_size_and_far_off_keypoints(height: int, width: int) -> None:
    points = np.array([[[-1e9, 3.0], [0.5, 0.5], [5e8, -1e9]]])
    drawn = draw_poses(grey(height, width), poses_of(points, CHAIN))
    assert drawn.shape == (height, width, 3)
    assert changed(drawn)[0, 0]


def test_keypoints_on_top_of_each_other() -> None:
    drawn = draw_poses(grey(), poses_of(np.full((1, 3, 2), 40.5), CHAIN))
    assert pixel(drawn, np.array([40, 40])) == person_colour(0)


def test_annotations_show_what_is_labelled_and_hidden_ones_smaller() -> None:
    points = np.array([[[20.5, 20.5], [60.5, 20.5], [100.5, 20.5]]])
    visibility = np.array([[VISIBLE, OCCLUDED, ABSENT]])
    people = Annotations(points, visibility, np.array([100.0]))
    loose = Skeleton.from_dict({"name": "loose", "keypoints": ["a", "b", "c"]})
    touched = changed(draw_annotations(grey(), people, loose))
    visible, occluded, absent = (touched[:, x - 15 : x + 15].sum() for x in (20, 60, 100))
    assert visible > occluded > absent == 0


def test_another_skeletons_people_are_refused() -> None:
    people = Annotations(np.zeros((1, 17, 2)), np.zeros((1, 17), dtype=np.int64), np.zeros(1))
    with pytest.raises(ValueError, match="14 keypoints of skeleton 'crowdpose', got 17"):
        draw_annotations(grey(), people, CROWDPOSE)


def test_thirty_people_and_keypoints_have_distinct_colours() -> None:
    for colours in ([person_colour(i) for i in range(30)], list(keypoint_colours(17))):
        rgb = np.array(colours, dtype=float)
        distance = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + 1e3 * np.eye(len(rgb))
        assert distance.min() > 8
