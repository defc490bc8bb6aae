"""What `CocoSource` makes of annotation files and images."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import coco as coco_api
from pycocotools import mask as coco_mask

from swahr.data import CocoSource, Source
from swahr.skeleton import COCO, CROWDPOSE

Content = dict[str, Any]
Write = Callable[..., tuple[Path, Path]]


def test_is_a_source(content: Content, write_coco: Write) -> None:
    source = CocoSource(*write_coco(content))
    assert isinstance(source, Source)
    assert not source.unbounded
    assert [source[i].image_id for i in range(len(source))] == [7, 3, 5]


def test_convention_half_pixel(content: Content, write_coco: Write) -> None:
    people = CocoSource(*write_coco(content))[0].annotations
    np.testing.assert_array_equal(people.keypoints[0, :2], [(10.5, 20.5), (30.5, 40.5)])
    np.testing.assert_array_equal(people.visibility, [(2, 1, 0)])
    np.testing.assert_array_equal(people.area, [500.5])


def test_image_without_people(content: Content, write_coco: Write) -> None:
    labelled = CocoSource(*write_coco(content))[2]
    assert labelled.annotations.keypoints.shape == (0, 3, 2)
    assert labelled.annotations.visibility.shape == (0, 3)
    assert labelled.valid.all()


def test_area_is_a_share_of_the_box_where_there_is_none(content: Content, write_coco: Write) -> None:
    del content["annotations"][0]["area"]
    source = CocoSource(*write_coco(content))
    assert source[0].annotations.area[0] == pytest.approx(0.53 * 30 * 40)
    assert source.ground_truth()["annotations"][0]["area"] == pytest.approx(0.53 * 30 * 40)


def test_unlabelled_person_without_outline_masks_the_box(content: Content, write_coco: Write) -> None:
    valid = CocoSource(*write_coco(content))[0].valid
    expected = np.ones((80, 60), dtype=bool)
    expected[60:70, 40:50] = False
    np.testing.assert_array_equal(valid, expected)


def test_box_beyond_the_image(content: Content, write_coco: Write) -> None:
    content["annotations"][1]["bbox"] = [-20.5, 70.5, 30.0, 100.0]
    valid = CocoSource(*write_coco(content))[0].valid
    assert not valid[70:, :10].any()
    assert valid.sum() == 80 * 60 - 10 * 10


def _outline(kind: str) -> Any:
    region = np.zeros((80, 60), dtype=np.uint8)
    region[10:30, 5:25] = 1
    if kind == "polygons":
        return [[5, 10, 25, 10, 25, 30, 5, 30], [1, 2]]
    runs = coco_mask.encode(np.asfortranarray(region))
    if kind == "compressed":
        return {"size": [80.0, 60.0], "counts": runs["counts"].decode()}
    flat = region.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes, flat.size])
    return {"size": [80, 60], "counts": lengths.astype(float if kind == "fractions" else int).tolist()}


@pytest.mark.parametrize("kind", ["polygons", "compressed", "run lengths", "fractions"])
@pytest.mark.parametrize("crowd", [0, 1])
def test_outline_is_masked(content: Content, write_coco: Write, kind: str, crowd: int) -> None:
    content["annotations"][1] |= {"segmentation": _outline(kind), "iscrowd": crowd}
    valid = CocoSource(*write_coco(content))[0].valid
    expected = np.ones((80, 60), dtype=bool)
    expected[10:30, 5:25] = False
    np.testing.assert_array_equal(valid, expected)


def test_crowd_with_keypoints_is_masked_and_not_labelled(content: Content, write_coco: Write) -> None:
    content["annotations"][0]["iscrowd"] = 1
    labelled = CocoSource(*write_coco(content))[0]
    assert len(labelled.annotations) == 0
    assert not labelled.valid[20:60, 10:40].any()


def test_labelled_people_are_not_masked(content: Content, write_coco: Write) -> None:
    content["annotations"][0]["segmentation"] = _outline("polygons")
    assert CocoSource(*write_coco(content))[0].valid[10:30, 5:25].all()


def test_choice_of_images(content: Content, write_coco: Write) -> None:
    path, images = write_coco(content)

    def ids(**options: Any) -> list[int]:
        source = CocoSource(path, images, **options)
        return [image["id"] for image in source.ground_truth()["images"]]

    assert ids(image_ids=[5, 7]) == [5, 7]
    assert ids(min_people=1) == [7, 3]
    assert ids(min_people=2) == [7]
    assert ids(limit=2) == [7, 3]
    assert ids(limit=99) == [7, 3, 5]
    assert ids(image_ids=[5, 3, 7], min_people=1, limit=1) == [3]


def test_bad_choice_of_images(content: Content, write_coco: Write) -> None:
    path, images = write_coco(content)
    with pytest.raises(ValueError, match=r"people\.json: image_ids contains \[8\].*3 images; correct"):
        CocoSource(path, images, image_ids=[7, 8])
    with pytest.raises(ValueError, match=r"people\.json: .* id in image_ids once, but \[7, 3\] are repeated"):
        CocoSource(path, images, image_ids=[7, 7, 5, 3, 3])
    with pytest.raises(ValueError, match=r"none of 3 images has at least min_people=5 .*; lower"):
        CocoSource(path, images, min_people=5)
    with pytest.raises(ValueError, match=r"limit to be at least 1 .* got 0"):
        CocoSource(path, images, limit=0)


def test_ground_truth_is_what_evaluators_read(content: Content, write_coco: Write) -> None:
    truth = CocoSource(*write_coco(content), image_ids=[3, 7]).ground_truth()
    json.dumps(truth)
    assert [annotation["num_keypoints"] for annotation in truth["annotations"]] == [99, 99, 99]
    for entry in content["annotations"]:
        del entry["num_keypoints"]
    counted = CocoSource(*write_coco(content), image_ids=[3, 7]).ground_truth()["annotations"]
    assert [annotation["num_keypoints"] for annotation in counted] == [3, 2, 0]
    assert truth["annotations"][1]["keypoints"] == [10, 20, 2, 30, 40, 1, 0, 0, 0]
    assert truth["images"][0]["crowdIndex"] == 0.5
    api = coco_api.COCO()
    api.dataset = truth
    api.createIndex()
    assert sorted(api.getImgIds()) == [3, 7]
    assert len(api.getAnnIds(imgIds=[7])) == 2


def test_ground_truth_is_a_copy(content: Content, write_coco: Write) -> None:
    source = CocoSource(*write_coco(content))
    truth = source.ground_truth()
    truth["annotations"][0]["keypoints"][0] = -1
    truth["images"][0]["id"] = -1
    assert source.ground_truth()["annotations"][0]["keypoints"][0] == 10
    assert source[0].image_id == 7


def test_gzip_and_subfolders(content: Content, write_coco: Write, tmp_path: Path) -> None:
    path, images = write_coco(content)
    zipped = tmp_path / "people.json.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    source = CocoSource(str(zipped), str(images))
    assert source.describe(1) == str(images / "sub" / "b.png")
    assert source[1].image.shape == (50, 90, 3)


NAMES = {
    "backslashes": ("sub\\b.png", "sub/b.png"),
    "percent signs": ("a%20b.png", "a b.png"),
    "address": ("https://example.org/data/b.png?size=1#top", "b.png"),
    "address with a space": ("https://example.org/data/a%20b.png", "a b.png"),
    "composed": ("e\u0301.png", "\u00e9.png"),
    "decomposed": ("\u00e9.png", "e\u0301.png"),
    "all": ("sub\\e\u0301%20b.png", "sub/\u00e9 b.png"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_file_under_another_spelling_of_its_name(content: Content, write_coco: Write, case: str) -> None:
    name, found = NAMES[case]
    path, images = write_coco(content)
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    (images / "a.png").rename(images / found)
    source = CocoSource(path, images)
    assert source[0].image.shape == (80, 60, 3)
    assert source.describe(0) == str(images / found)


def test_the_name_itself_comes_first(content: Content, write_coco: Write) -> None:
    content["images"][0]["file_name"] = "a%20b.png"
    path, images = write_coco(content)
    (images / "a b.png").write_bytes(b"another image")
    assert CocoSource(path, images)[0].image.shape == (80, 60, 3)


def test_what_was_tried_for_a_missing_file(content: Content, write_coco: Write) -> None:
    path, images = write_coco(content)
    content["images"][0]["file_name"] = "sub\\x%20y.png"
    content["images"][1]["file_name"] = 300 * "x"
    path.write_text(json.dumps(content))
    source = CocoSource(path, images)
    with pytest.raises(
        FileNotFoundError, match=r"image 7 of .*people\.json.*'sub/x%20y.png', .*'sub/x y.png'"
    ):
        source[0]
    with pytest.raises(FileNotFoundError, match="xxx: expected an image file for image 3 of"):
        source[1]


def _photo(path: Path, height: int, width: int, orientation: int) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    payload = b"Exif\x00\x00" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:])


@pytest.mark.parametrize("stored", [(80, 60), (60, 80)])
def test_annotated_size_decides_about_orientation(
    content: Content, write_coco: Write, stored: tuple[int, int]
) -> None:
    path, images = write_coco(content)
    _photo(images / "a.png", *stored, orientation=6)  # the upright image has the other shape
    assert CocoSource(path, images)[0].image.shape == (80, 60, 3)


def test_annotated_size_must_be_the_real_one(content: Content, write_coco: Write) -> None:
    path, images = write_coco(content)
    _photo(images / "a.png", 81, 60, orientation=1)
    with pytest.raises(
        ValueError, match=r"a\.png: .*\(80, 60\) that .*people\.json.* 7, got \(81, 60\); use"
    ):
        CocoSource(path, images)[0]


def test_missing_image(content: Content, write_coco: Write) -> None:
    path, images = write_coco(content)
    (images / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: .*check the images folder"):
        CocoSource(path, images)[0]


COUNTS = {
    "coco/annotations/person_keypoints_train2017.json": ("coco/train2017", 70),
    "coco/annotations/person_keypoints_val2017.json": ("coco/val2017", 100),
    "crowdpose/json/crowdpose_two_images.json": ("crowdpose/images", 2),
    "ochuman/annotations.json": ("ochuman", 3),
}


@pytest.mark.parametrize("file", COUNTS)
def test_real_images(shared_data: Path, file: str) -> None:
    folder, count = COUNTS[file]
    source = CocoSource(shared_data / file, shared_data / folder)
    assert len(source) == count
    assert source.skeleton is (CROWDPOSE if "crowdpose" in file else COCO)
    entries = source.ground_truth()["annotations"]
    labelled_count = sum(any(entry["keypoints"][2::3]) and not entry["iscrowd"] for entry in entries)
    images = [source[index] for index in range(count)]
    assert sum(len(labelled.annotations) for labelled in images) == labelled_count
    for labelled in images:
        assert labelled.image.shape[:2] == labelled.valid.shape
        people = labelled.annotations
        inside = people.keypoints[people.visibility > 0]
        assert (inside >= 0).all()
        assert (inside <= np.array(labelled.valid.shape[::-1])).all()
    if "val2017" in file:
        assert (len(entries), labelled_count) == (374, 228)
        assert any(not labelled.valid.all() for labelled in images)


def test_real_crowdpose_file(shared_data: Path) -> None:
    source = CocoSource(shared_data / "crowdpose/json/crowdpose_val.json.gz", "no images needed")
    truth = source.ground_truth()
    assert source.skeleton is CROWDPOSE
    assert (len(source), len(truth["annotations"])) == (2000, 8527)
    assert all(image["crowdIndex"] >= 0 for image in truth["images"])
