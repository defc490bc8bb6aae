"""Files whose entries are written in other ways, or lack something, are read for what they mean."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swahr.data import CocoSource
from swahr.data.coco_file import CocoAnnotation, read_coco_file
from swahr.skeleton import COCO

Content = dict[str, Any]
Write = Callable[..., tuple[Path, Path]]
REMOVED = object()


def _set(entry: Content, key: str, value: Any) -> None:
    entry[key] = value
    if value is REMOVED:
        del entry[key]


def _annotations(path: Path) -> list[CocoAnnotation]:
    return [person for image in read_coco_file(path, None).images for person in image.annotations]


def _spelled(content: Content, spell: Callable[[int], Any]) -> None:
    for section, keys in (
        ("images", ("id", "height", "width")),
        ("annotations", ("id", "image_id", "category_id", "iscrowd", "num_keypoints")),
        ("categories", ("id",)),
    ):
        for entry in content[section]:
            entry.update({key: spell(entry[key]) for key in keys})


@pytest.mark.parametrize("spell", [str, float, lambda number: f" {number} "], ids=["text", "float", "spaces"])
@pytest.mark.parametrize("every", [1, 2])
def test_integers_in_other_spellings(
    content: Content, write_coco: Write, spell: Callable[[int], Any], every: int
) -> None:
    path, images = write_coco(content)
    expected = CocoSource(path, images).ground_truth()
    calls = iter(range(1000))
    _spelled(content, lambda number: spell(number) if next(calls) % every == 0 else number)
    path.write_text(json.dumps(content))
    source = CocoSource(path, images)
    assert source.ground_truth() == expected
    assert len(source[0].annotations) == 1


def test_ids_above_double_precision_stay_exact(content: Content, write_coco: Write) -> None:
    first, second = 2**53 + 1, 2**53 + 2
    for image, number in zip(content["images"], (first, second, 1), strict=True):
        image["id"] = number
    for annotation, number in zip(content["annotations"], (first, str(second), str(first)), strict=True):
        annotation["image_id"] = number
    truth = CocoSource(*write_coco(content)).ground_truth()
    assert [entry["id"] for entry in truth["images"]] == [first, second, 1]
    assert [entry["image_id"] for entry in truth["annotations"]] == [first, first, second]


@pytest.mark.parametrize("flag", [None, REMOVED, 0, 0.0, "0", False])
def test_people_are_no_crowd_however_that_is_written(content: Content, write_coco: Write, flag: Any) -> None:
    _set(content["annotations"][0], "iscrowd", flag)
    source = CocoSource(*write_coco(content))
    assert len(source[0].annotations) == 1
    assert source.ground_truth()["annotations"][0]["iscrowd"] == 0


@pytest.mark.parametrize("flag", [1, 1.0, "1", True])
def test_a_crowd_however_that_is_written(content: Content, write_coco: Write, flag: Any) -> None:
    content["annotations"][0]["iscrowd"] = flag
    source = CocoSource(*write_coco(content))
    assert len(source[0].annotations) == 0
    assert source.ground_truth()["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize("missing", [None, REMOVED])
def test_a_missing_count_is_counted(content: Content, write_coco: Write, missing: Any) -> None:
    _set(content["annotations"][0], "num_keypoints", missing)
    truth = CocoSource(*write_coco(content)).ground_truth()
    assert [entry["num_keypoints"] for entry in truth["annotations"]] == [2, 99, 99]


@pytest.mark.parametrize("missing", [None, [], REMOVED])
def test_a_person_without_keypoints_is_unlabelled(content: Content, write_coco: Write, missing: Any) -> None:
    _set(content["annotations"][0], "keypoints", missing)
    path, images = write_coco(content)
    source = CocoSource(path, images)
    assert len(source[0].annotations) == 0
    assert not source[0].valid[20:60, 10:40].any()
    first = source.ground_truth()["annotations"][0]
    assert (first["keypoints"], first["num_keypoints"]) == ([0] * 9, 0)
    assert [person.filled for person in _annotations(path)] == [("keypoints",), (), ()]


def test_without_a_box_it_is_that_of_the_keypoints(content: Content, write_coco: Write) -> None:
    content["annotations"][0] |= {"bbox": None, "area": None}
    path, _ = write_coco(content)
    person = _annotations(path)[0]
    assert person.entry["bbox"] == [10.5, 20.5, 20, 20]
    assert person.area == pytest.approx(0.53 * 400)
    assert person.filled == ("bbox", "area")


def test_without_a_box_it_is_that_of_the_segmentation(content: Content, write_coco: Write) -> None:
    del content["annotations"][1]["bbox"]
    content["annotations"][1]["segmentation"] = [[5, 10, 25, 10, 25, 30, 5, 30]]
    path, images = write_coco(content)
    assert _annotations(path)[1].entry["bbox"] == [5, 10, 20, 20]
    assert not CocoSource(path, images)[0].valid[10:30, 5:25].any()


@pytest.mark.parametrize("flag", [0, 1])
def test_without_box_keypoints_and_segmentation_nothing_is_masked(
    content: Content, write_coco: Write, flag: int
) -> None:
    content["annotations"][1] |= {"bbox": None, "keypoints": None, "segmentation": [], "iscrowd": flag}
    path, images = write_coco(content)
    assert CocoSource(path, images)[0].valid.all()
    assert _annotations(path)[1].entry["bbox"] == [0, 0, 0, 0]
    assert _annotations(path)[1].filled == ("keypoints", "bbox")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_unlabelled_keypoints_need_no_position(content: Content, write_coco: Write, value: Any) -> None:
    content["annotations"][0]["keypoints"][6:] = [value, value, 0]
    truth = CocoSource(*write_coco(content)).ground_truth()
    assert truth["annotations"][0]["keypoints"] == [10, 20, 2, 30, 40, 1, 0, 0, 0]


@pytest.mark.parametrize("spell", [str, float])
def test_visibilities_in_other_spellings(
    content: Content, write_coco: Write, spell: Callable[[int], Any]
) -> None:
    content["annotations"][0]["keypoints"][2::3] = map(spell, (2, 1, 0))
    assert CocoSource(*write_coco(content))[0].annotations.visibility.tolist() == [[2, 1, 0]]


def test_own_details_for_the_keypoints_of_coco(content: Content, write_coco: Write) -> None:
    details = {"sigmas": [0.1] * 17, "flip_pairs": [["left_eye", "right_eye"]], "skeleton": [["nose", 2]]}
    content["categories"][0] |= {"keypoints": list(COCO.keypoints), **details}
    for annotation in content["annotations"]:
        annotation["keypoints"] += [0] * 42
    source = CocoSource(*write_coco(content))
    assert source.skeleton.sigmas == (0.1,) * 17
    assert source.skeleton.limbs == (("nose", "left_eye"),)
    assert source.skeleton.flip_pairs == (("left_eye", "right_eye"),)
    assert source.skeleton.grouping_order == COCO.grouping_order
