"""A bad annotation file is refused with a message that names the error, its location and a remedy."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swahr.data import CocoSource
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
