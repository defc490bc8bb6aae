"""Building and checking entries of COCO-format files; reading is tested with `CocoSource`."""

import json

import numpy as np
import pytest

from swahr.coco_json import bounding_box, dataset, finite_numbers, flat_keypoints, image_entry, person_entry
from swahr.skeleton import Skeleton

STICK = Skeleton.from_dict({"name": "stick", "keypoints": ["top", "bottom"]})


def test_convention_json_holds_pixel_indices() -> None:
    points = np.array([[0.5, 10.0], [np.nan, np.nan]])
    assert flat_keypoints(points, np.array([0.25, 0.75]), np.array([True, False])) == [0, 9.5, 0.25, 0, 0, 0]


def test_an_annotation_by_hand() -> None:
    entry = person_entry(
        7, np.array([[1.5, 2.5], [9.0, 9.0]]), np.array([1, 0]), box=[1.0, 2.0, 3.0, 4.0], area=6.0
    )
    assert json.loads(json.dumps(entry)) == {
        "image_id": 7, "category_id": 1, "iscrowd": 0, "keypoints": [1.0, 2.0, 1, 0, 0, 0],
        "num_keypoints": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 6.0,
    }  # fmt: skip


def test_boxes() -> None:
    assert bounding_box(np.array([[3.0, 8.0], [1.0, 9.0]])) == [1.0, 8.0, 2.0, 1.0]
    assert bounding_box(np.zeros((0, 2))) == [0.0, 0.0, 0.0, 0.0]


def test_annotations_are_numbered_from_one_and_inputs_are_copied() -> None:
    image = image_entry(3, "a.jpg", (20, 30))
    content = dataset([image], [{"id": 9}, {}], STICK.to_category())
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2]
    assert content["images"] == [{"id": 3, "file_name": "a.jpg", "height": 20, "width": 30}]
    assert content["images"][0] is not image


@pytest.mark.parametrize(
    "values", [None, "12", ["1", "2"], [1, None], [[1], [2]], [[1], 2], [np.inf], {}, [True]]
)
def test_only_flat_lists_of_numbers_are_numbers(values: object) -> None:
    with pytest.raises(ValueError, match="file: expected a list of finite numbers"):
        finite_numbers(values, "file")


def test_numbers_may_be_integers_or_none_at_all() -> None:
    assert finite_numbers([1, 2.5], "file").tolist() == [1.0, 2.5]
    assert finite_numbers([], "file").shape == (0,)
