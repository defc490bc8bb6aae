"""A bad annotation file is refused with a message that names the error, its location and a remedy."""

import gzip
import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swahr.data import CocoSource
from swahr.data.coco_file import CocoAnnotation, read_coco_file
from swahr.skeleton import COCO, Skeleton

Content = dict[str, Any]
Write = Callable[..., tuple[Path, Path]]
REMOVED = object()


def _change(path: str, value: Any) -> Callable[[Content], None]:
    """A change of one entry, e.g. ``annotations.0.bbox``; `REMOVED` takes it away."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]

    def change(content: Content) -> None:
        node: Any = content
        for part in parents:
            node = node[part]
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value

    return change


def _nobody_labelled(content: Content) -> None:
    for annotation in content["annotations"]:
        annotation["keypoints"] = [0] * 9


def _two_skeletons(content: Content) -> None:
    content["categories"].append({"id": 2, "name": "other", "keypoints": ["x"]})


BAD = {
    "no images": (_change("images", REMOVED), r"expected the keys .* but \['images'\] are missing; add"),
    "no annotations": (_change("annotations", REMOVED), r"\['annotations'\] are missing; add"),
    "no categories": (_change("categories", REMOVED), r"\['categories'\] are missing; add"),
    "image without size": (_change("images.1.height", REMOVED), r"image 3: .*\['height'\] are missing; add"),
    "image without id": (_change("images.1.id", REMOVED), r"image at position 1: .*\['id'\] are missing"),
    "repeated image": (_change("images.1.id", 7), r"every image id once, but \[7\] .*; renumber"),
    "repeated annotation": (_change("annotations.1.id", 1), r"every annotation id once, but \[1\]"),
    "fractional height": (
        _change("images.1.height", 50.5),
        r"image 3: 'height': expected an integer, got 50.5; correct it",
    ),
    "no category": (_change("annotations.1.category_id", REMOVED), r"annotation 2: .*\['category_id'\]"),
    "unknown category": (
        _change("annotations.1.category_id", 2),
        r"annotation 2: .*categories, \[1\], got category_id 2; add the category or drop",
    ),
    "category of another kind": (
        _change("annotations.1.category_id", "person"),
        r"annotation 2: 'category_id'",
    ),
    "repeated image in quotes": (_change("images.1.id", "7"), r"every image id once, but \[7\]"),
    "id that is not exact": (_change("images.0.id", 1e17), r"image 1e\+17: 'id': expected an integer"),
    "id of too many digits": (_change("images.0.id", 10**19), r"image 10000000000000000000: 'id': expected"),
    "flag as an id": (_change("annotations.0.id", True), r"annotation True: 'id': expected an integer"),
    "no file name": (_change("images.2.file_name", ""), r"image 5: expected the name .*, got ''; correct"),
    "file name of an object": (_change("images.2.file_name", {}), r"image 5: expected the name .*, got \{\}"),
    "file name of half a letter": (_change("images.2.file_name", "a\ud800"), r"image 5: expected the name"),
    "empty image": (_change("images.0.width", 0), r"image 7: .*from 1 to .* got \(80, 0\); correct"),
    "huge side": (_change("images.0.width", 2**20 + 1), r"image 7: expected a height and width"),
    "huge image": (
        lambda content: content["images"][0].update(width=2**16, height=2**14 + 1),
        r"image 7: .*at most 1073741824 pixels, got \(16385, 65536\)",
    ),
    "crowd flag": (_change("annotations.0.iscrowd", 2), r"annotation 1: .*'iscrowd' 0 or 1 .* got"),
    "crowd flag in words": (
        _change("annotations.0.iscrowd", "no"),
        r"annotation 1: 'iscrowd': expected an int",
    ),
    "negative count": (_change("annotations.0.num_keypoints", -1), r"annotation 1: .*'num_keypoints' from 0"),
    "negative area": (_change("annotations.0.area", -1), r"annotation 1: expected an 'area' from 0, got -1"),
    "negative box": (
        _change("annotations.0.bbox.2", -1),
        r"annotation 1: .*sides from 0, got \[10, 20, -1, 40",
    ),
    "huge box": (_change("annotations.0.bbox.2", 1e300), r"annotation 1: 'bbox': expected a list of finite"),
    "keypoints as text": (
        _change("annotations.0.keypoints", "1 2 2"),
        r"annotation 1: expected a list of numbers as 'keypoints', got '1 2 2'",
    ),
    "labelled at null": (
        _change("annotations.0.keypoints.0", None),
        r"annotation 1: 'keypoints': expected a list of finite numbers",
    ),
    "null images": (_change("images", None), r"expected a list of objects as 'images', got None"),
    "mapped annotations": (
        _change("annotations", {"1": {}}),
        r"expected a list of objects as 'annotations', got \{'1': \{\}\}",
    ),
    "category name alone": (_change("categories.0", "person"), r"an object as categories\[0\], got 'person'"),
    "null annotation": (_change("annotations.1", None), r"expected an object as annotations\[1\], got None"),
    "names in one text": (
        _change("categories.0.keypoints", "head"),
        r"a list 'keypoints' of names, got 'head'",
    ),
    "null name": (_change("categories.0.keypoints.1", None), r"expected a list 'keypoints' of names"),
    "bad sigmas": (
        _change("categories.0.sigmas", [0.1, None, 0.1]),
        r"a list 'sigmas' of numbers from 0 to 1, got \[0.1,",
    ),
    "no category id": (
        _change("categories.0.id", REMOVED),
        r"category at position 0: .*\['id'\] are missing",
    ),
    "bad area": (_change("annotations.0.area", "large"), r"annotation 1: 'area': expected a list of finite"),
    "bad bbox": (
        _change("annotations.0.bbox", [1, 2, 3]),
        r"annotation 1: .*x, y, width, height.*\[1, 2, 3\]",
    ),
    "short keypoints": (
        _change("annotations.0.keypoints", [1, 2, 2] * 2),
        r"annotation 1: expected 9 numbers .* got 6; correct",
    ),
    "bad visibility": (
        _change("annotations.0.keypoints", [1, 2, 3] * 3),
        r"annotation 1: .*visibilities 0, 1 or 2, got 3; correct",
    ),
    "not finite": (
        _change("annotations.0.keypoints.0", float("nan")),
        r"annotation 1: 'keypoints': expected a list of finite numbers",
    ),
    "unknown image": (
        _change("annotations.2.image_id", 99),
        r"annotation 4: .*3 images, got image_id 99; add the image or drop",
    ),
    "nobody labelled": (_nobody_labelled, r"expected annotated people, got 3 annotations .*; check"),
    "no annotation at all": (_change("annotations", []), r"expected annotated people, got 0 annotations"),
    "no names": (
        _change("categories.0.keypoints", REMOVED),
        r"one category with 'keypoints' names, got 0 of 1; add",
    ),
    "two skeletons": (_two_skeletons, r"one category with 'keypoints' names, got 2 of 2"),
    "bad limbs": (_change("categories.0.skeleton", [[0, 1]]), r"1-based index pairs up to 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case: str, content: Content, write_coco: Write) -> None:
    change, message = BAD[case]
    path, images = write_coco(content)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{message}"):
        CocoSource(path, images)


@pytest.mark.parametrize("text", ["", "{", '{"images": [}', "\xff\xfe", "nonsense"])
def test_malformed_json(tmp_path: Path, text: str) -> None:
    for path, write in (
        (tmp_path / "people.json", lambda path, data: path.write_bytes(data)),
        (tmp_path / "people.json.gz", lambda path, data: path.write_bytes(gzip.compress(data))),
    ):
        write(path, text.encode("latin-1"))
        with pytest.raises(ValueError, match=rf"{path.name}: expected JSON, .*fetch it again"):
            CocoSource(path, tmp_path)


def test_truncated_or_wrong_gzip(tmp_path: Path) -> None:
    path = tmp_path / "people.json.gz"
    for data in (gzip.compress(b"x" * 5000)[:-12], b"plain text", b""):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"people\.json\.gz: expected JSON"):
            CocoSource(path, tmp_path)


def test_results_file_is_not_annotations(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"results\.json: expected a COCO-format mapping, got a list"):
        CocoSource(path, tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"none\.json: expected a COCO-format annotation file.*check the data root"
    ):
        CocoSource(tmp_path / "none.json", tmp_path)


def test_wrong_skeleton(content: Content, write_coco: Write) -> None:
    with pytest.raises(ValueError, match=r"'nose'.*'left_hand'.*wrong skeleton for the data; give"):
        CocoSource(*write_coco(content), skeleton=COCO)


def test_skeleton_of_the_category(content: Content, write_coco: Write) -> None:
    skeleton = CocoSource(*write_coco(content)).skeleton
    assert skeleton.name == "puppet"
    assert skeleton.flip_permutation == (1, 0, 2)
    assert skeleton.limbs == (("left_hand", "head"), ("right_hand", "head"))


def test_given_skeleton_supplies_names_or_details(content: Content, write_coco: Write) -> None:
    given = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"], "sigmas": [0.1, 0.1, 0.2]})
    assert CocoSource(*write_coco(content), skeleton=given).skeleton is given
    del content["categories"][0]["keypoints"]
    source = CocoSource(*write_coco(content), skeleton=given)
    assert source.ground_truth()["categories"][0]["keypoints"] == ["left_hand", "right_hand", "head"]


def test_other_categories_are_left_alone(content: Content, write_coco: Write) -> None:
    content["categories"].append({"id": 2, "name": "dog"})
    content["annotations"].append({"id": 50, "image_id": 7, "category_id": 2})
    assert len(CocoSource(*write_coco(content)).ground_truth()["annotations"]) == 3


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
    _change("annotations.0.iscrowd", flag)(content)
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
    _change("annotations.0.num_keypoints", missing)(content)
    truth = CocoSource(*write_coco(content)).ground_truth()
    assert [entry["num_keypoints"] for entry in truth["annotations"]] == [2, 99, 99]


@pytest.mark.parametrize("missing", [None, [], REMOVED])
def test_a_person_without_keypoints_is_unlabelled(content: Content, write_coco: Write, missing: Any) -> None:
    _change("annotations.0.keypoints", missing)(content)
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


def _peak_memory() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


SEGMENTATIONS = {
    "text": ("1 2 3", "expected polygons or run lengths, got '1 2 3'"),
    "number": (3, "expected polygons or run lengths, got 3"),
    "flat list": ([1, 2, 3, 4, 5, 6], "expected a list of finite numbers, got 1"),
    "not a number": ([[1, 2, float("nan"), 4, 5, 6]], "expected a list of finite numbers"),
    "infinity": ([[1, 2, float("inf"), 4, 5, 6]], "expected a list of finite numbers"),
    "half a point": ([[1, 2, 3, 4, 5, 6, 7]], "expected polygons as x, y pairs, got 7 numbers"),
    "far outside": ([[1, 2, 3, 4, 1e9, 6]], r"in the image of size \(h, w\) = \(80, 60\), got the point"),
    "a long outline": ([[0, 0, 50, 70] * 8000], "outlines of at most 1048576 pixels, got 1120000"),
    "runs without size": ({"counts": [4800]}, r"the image's size \[h, w\] = \[80, 60\], got None"),
    "runs of another size": ({"size": [60, 80], "counts": [4800]}, r"= \[80, 60\], got \[60, 80\]"),
    "runs without counts": ({"size": [80, 60]}, "counts: expected a list of finite numbers, got None"),
    "too few pixels": ({"size": [80, 60], "counts": [4799]}, "image's 4800 pixels, got .* the sum 4799"),
    "negative run": ({"size": [80, 60], "counts": [-1, 4801]}, "add up to the image's 4800 pixels"),
    "fraction of a run": ({"size": [80, 60], "counts": [0.5, 4799.5]}, "add up to the image's 4800 pixels"),
    "a run that ends early": ({"size": [80, 60], "counts": "PPP"}, "correct or remove the run lengths"),
    "runs that end early": ({"size": [80, 60], "counts": "5"}, "correct or remove the run lengths"),
    "letters outside ASCII": ({"size": [80, 60], "counts": "é"}, "correct or remove the run lengths"),
}


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_bad_segmentation_is_found_when_the_file_is_opened(
    case: str, content: Content, write_coco: Write
) -> None:
    segmentation, message = SEGMENTATIONS[case]
    content["annotations"][1]["segmentation"] = segmentation
    path, images = write_coco(content)
    where = f"^{re.escape(str(path))}: annotation 2: 'segmentation'"
    with pytest.raises(ValueError, match=f"{where}.*{message}"):
        CocoSource(path, images)


def test_unused_segmentations_are_not_checked(content: Content, write_coco: Write) -> None:
    content["annotations"][0]["segmentation"] = [[float("nan")] * 6]
    assert CocoSource(*write_coco(content))[0].valid[:60, :40].all()


def test_the_longest_outlines_need_little_memory(content: Content, write_coco: Write) -> None:
    content["annotations"][1]["segmentation"] = [[0, 0, 59, 79] * 6000 + [0, 79]] * 3
    source = CocoSource(*write_coco(content))
    before = _peak_memory()
    assert not source[0].valid.all()
    assert _peak_memory() - before < 400 * 2**20
