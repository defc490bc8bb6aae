"""Every faulty file says what is wrong with it, and sound files say nothing."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swahr.data import CocoSource
from swahr.data.plausibility import examine
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

Content = dict[str, Any]
Change = Callable[[Content], None]
IMAGES, PER_IMAGE, WIDTH, HEIGHT = 15, 2, 640, 480


def sound(skeleton: Skeleton = COCO) -> Content:
    """Fifteen images of two people each."""
    rng, people = np.random.default_rng(0), []
    for number in range(IMAGES * PER_IMAGE):
        low = rng.uniform((20, 20), (300, 200))
        points = low + rng.uniform(0, 1, (skeleton.num_keypoints, 2)) * (120, 220)
        box = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]
        people.append(
            {
                "id": number + 1, "image_id": number // PER_IMAGE + 1, "category_id": 1, "iscrowd": 0,
                "bbox": box, "area": 0.6 * box[2] * box[3], "num_keypoints": skeleton.num_keypoints,
                "keypoints": [value for x, y in points.tolist() for value in (x, y, 2)],
            }
        )  # fmt: skip
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(1, IMAGES + 1)
    ]
    return {"images": images, "annotations": people, "categories": [skeleton.to_category()]}


def opened(content: Content, folder: Path, **options: Any) -> CocoSource:
    file = folder / "people.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return CocoSource(file, folder, **options)


def everybody(**values: Any) -> Change:
    return lambda content: [person.update(values) for person in content["annotations"]] and None


def first(**values: Any) -> Change:
    return lambda content: content["annotations"][0].update(values)


def points(change: Callable[[int, float], float], people: slice = slice(None)) -> Change:
    """Change coordinates: ``change(axis, value)``."""

    def changed(content: Content) -> None:
        for person in content["annotations"][people]:
            values = person["keypoints"]
            person["keypoints"] = [v if i % 3 == 2 else change(i % 3, v) for i, v in enumerate(values)]

    return changed


def placed(triple: list[float]) -> Change:
    """The first person's last keypoint."""
    return lambda content: content["annotations"][0]["keypoints"].__setitem__(slice(-3, None), triple)


def fractions_of_the_size(content: Content) -> None:
    points(lambda axis, v: v / (WIDTH, HEIGHT)[axis])(content)


def turned_size(content: Content) -> None:
    content["images"][0] |= {"height": WIDTH, "width": HEIGHT}
    points(lambda axis, v: (v + 200, v)[axis], slice(0, 2))(content)


def corners_for_boxes(content: Content) -> None:
    for person in content["annotations"]:
        x, y, w, h = person["bbox"]
        person["bbox"] = [x, y, x + w, y + h]


def names(*keypoints: str) -> Change:
    def renamed(content: Content) -> None:
        content["categories"] = [{"id": 1, "name": "person", "keypoints": [*keypoints, *"abcdefghijkmn"]}]

    return renamed


ERRORS: dict[str, tuple[Change, str]] = {
    "area 0": (everybody(area=0), "30 of 30 people have an area too small .*: OKS .* write square pixels"),
    "area 1": (first(area=1), r"1 of 30 people have an area too small .* \(annotations 1\)"),
    "area as a fraction": (everybody(area=0.12), "30 of 30 people have an area too small"),
    "area far too small": (first(area=30), "1 of 30 people have an area too small"),
    "area of another unit": (first(area=10_000_000), "1 of 30 people have an area larger than twice"),
    "box of size 0": (everybody(bbox=[0, 0, 0, 0]), r"30 of 30 people have a box of size 0 .*1, 2, 3, …\)"),
    "box without width": (first(bbox=[10, 10, 0, 50]), r"1 of 30 people have a box of size 0"),
    "boxes as fractions": (everybody(bbox=[0.1, 0.1, 0.3, 0.5]), "30 of 30 people have a box of size 0"),
    "boxes as corners": (corners_for_boxes, "have a box that leaves the image"),
    "points as fractions": (fractions_of_the_size, "look like fractions or percentages .* write pixels"),
    "points as percentages": (points(lambda axis, v: v / (6.4, 4.8)[axis]), "fractions or percentages"),
    "far outside": (points(lambda _, v: v + 5000, slice(0, 1)), "1 of 30 people have points far outside th"),
    "one point far outside": (placed([5000, 9, 2]), "1 of 30 people have points far outside their image"),
    "far to the left": (placed([-900, 9, 1]), "1 of 30 people have points far outside their image"),
    "another resolution": (points(lambda axis, v: (1.8 * v, v)[axis]), "people have points outside .*height"),
    "labelled at the origin": (placed([0, 0, 2]), r"1 of 30 people have labelled points at \(0, 0\)"),
    "labelled at minus one": (placed([-1, -1, 1]), r"at \(0, 0\) or \(-1, -1\) .* need visibility 0"),
    "turned size": (turned_size, "2 of 30 people are in images whose height and width seem to be exchanged"),
    "nobody counted": (everybody(num_keypoints=0), "have num_keypoints 0 .* evaluation ignores them"),
    "sides without pairs": (names("Left Eye", "RightEar", "L_Lip", "toe_r"), "RightEar, L_Lip, toe_r look"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ERRORS)
def test_an_error_says_who_and_what_to_do(tmp_path: Path, fault: str) -> None:
    change, message = ERRORS[fault]
    content = sound()
    change(content)
    with pytest.raises(ValueError, match=message) as caught:
        opened(content, tmp_path)
    assert str(tmp_path / "people.json") in str(caught.value)
    assert "data.insist=true" in str(caught.value)
    insisted = opened(content, tmp_path, insist=True).findings
    assert len(insisted.errors) == 1, insisted.errors
    assert "people.json: 15 images, 30 people" in insisted.summary()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (points(lambda axis, v: (v + 350, v)[axis], slice(0, 1)), "1 of 30 people have points outside their"),
        (
            lambda c: [p.update(num_keypoints=0) for p in c["annotations"][:20]],
            "20 of 30 people have num_key",
        ),
        (everybody(bbox=[600, 440, 30, 30]), "have points far outside their box"),
        (lambda c: c["annotations"].append(c["annotations"][0] | {"id": 99}), r"1 of 31 .* repeat another"),
        (
            first(keypoints=[0] * 51),
            r"1 people have num_keypoints above 0 but no labelled keypoint \(annotations 1\)",
        ),
        (names("left_eye", "right_eye", "left_ear", "ear_x"), "the keypoints left_ear look like one of two"),
        (names("left_eye", "left_ear", "x", "y"), "the keypoints left_eye, left_ear look like one of two"),
    ],
)
def test_a_warning_does_not_refuse(tmp_path: Path, change: Change, message: str) -> None:
    content = sound()
    change(content)
    findings = opened(content, tmp_path).findings
    assert not findings.errors
    assert len(findings.warnings) == 1, findings.warnings
    assert re.search(message, findings.warnings[0]), findings.warnings


def test_a_sound_file_says_nothing(tmp_path: Path) -> None:
    for skeleton in (COCO, CROWDPOSE):
        findings = opened(sound(skeleton), tmp_path).findings
        assert findings.errors == findings.warnings == findings.suspicious == ()


def test_everything_is_counted_with_its_reason(tmp_path: Path) -> None:
    content = sound()
    for number, change in enumerate([{"iscrowd": 1}, *[{"keypoints": [0] * 51, "num_keypoints": 0}] * 4]):
        content["annotations"][number] |= change
    content["annotations"][5] |= {"num_keypoints": 0}
    del content["annotations"][6]["area"], content["annotations"][7]["num_keypoints"]
    content["annotations"][9]["keypoints"][:2] = [641, 100]
    findings = opened(content, tmp_path).findings
    counts = json.loads(json.dumps(findings.to_dict()))
    assert counts.pop("warnings") == counts.pop("errors") == []
    assert counts == {
        "images": 15, "people": 25, "evaluated": 24,
        "ignored": {
            "crowd regions": {"count": 1, "examples": [1]},
            "without labelled keypoints": {"count": 4, "examples": [2, 3, 4]},
        },
        "areas_from_boxes": 1, "points": 25 * 17, "points_outside": 1, "share_of_points_at_origin": 0.0,
        "people_outside_box": 1, "num_keypoints_differ": 1, "turned_images": 0, "flip_pairs": 8,
        "names_without_partner": [],
    }  # fmt: skip
    assert "ignored: 1 crowd regions, 4 without labelled keypoints" in findings.summary()


def test_a_person_at_the_corner_of_an_image_may_have_a_keypoint_there(tmp_path: Path) -> None:
    content = sound()
    placed([0, 0, 2])(content)
    box = content["annotations"][0]["bbox"]
    content["annotations"][0]["bbox"] = [0, 0, box[0] + box[2], box[1] + box[3]]
    assert not opened(content, tmp_path).findings.errors
    content["annotations"][0]["keypoints"][:3] = [0, 0, 2]
    with pytest.raises(ValueError, match=r"labelled points at \(0, 0\)"):
        opened(content, tmp_path)


def test_only_the_images_that_are_used_are_examined(tmp_path: Path) -> None:
    content = sound()
    content["annotations"][4]["area"] = 0
    with pytest.raises(ValueError, match="area too small"):
        opened(content, tmp_path)
    assert opened(content, tmp_path, limit=2).findings.counts["people"] == 4
    assert opened(content, tmp_path, image_ids=[4, 5]).findings.counts["people"] == 4
    assert dict(opened(content, tmp_path, insist=True).findings.suspicious) == {
        2: "people have an area too small for their keypoints (annotation 5)"
    }
    with pytest.raises(ValueError, match="nobody in these images has labelled keypoints: AP would be -1"):
        opened(content | {"annotations": content["annotations"][2:]}, tmp_path, limit=1)


def test_all_errors_are_listed_at_once(tmp_path: Path) -> None:
    content = sound()
    first(area=0, bbox=[0, 0, 0, 0])(content)
    with pytest.raises(ValueError, match=r"(?s)area too small.*\n- .*box of size 0.*\nCorrect the file"):
        opened(content, tmp_path)


SOUND = (
    "coco/annotations/person_keypoints_train2017.json", "coco/annotations/person_keypoints_val2017.json",
    "crowdpose/json/crowdpose_44_images.json", "crowdpose/json/crowdpose_two_images.json",
    "crowdpose/json/crowdpose_val.json.gz", "layouts/coco_person_keypoints_train2017_10k.json.gz",
    "layouts/coco_person_keypoints_val2017.json.gz", "ochuman/annotations.json", "photos/test.json",
    "photos/train.json", "photos/val.json", "results/coco_person_keypoints_val2017_official_724.json.gz",
    "results/example_coco_val.json", "results/fce_example_crowdpose_val.json",
    "results/mmpose_test_coco.json", "results/person_keypoints_val2014_first100.json",
)  # fmt: skip


@pytest.mark.parametrize("file", SOUND)
def test_real_files_say_nothing(shared_data: Path, file: str) -> None:
    findings = CocoSource(shared_data / file, shared_data).findings
    assert findings.errors == findings.warnings == findings.suspicious == ()


def test_a_real_file_is_examined_in_seconds(shared_data: Path) -> None:
    """COCO train has six times as many people."""
    source = CocoSource(shared_data / "layouts/coco_person_keypoints_train2017_10k.json.gz", shared_data)
    started = time.process_time()
    assert examine(source._images, source.skeleton, source="10k").counts["people"] == 26450
    assert time.process_time() - started < 4
