import gzip
import json

import numpy as np
import pytest

from swahr.skeleton import COCO, CROWDPOSE
from swahr.structures import ABSENT, VISIBLE
from swahr.synthetic import SyntheticSource

SETTINGS = {
    "size": 1,
    "image_size": (200, 300),
    "person_height": None,
    "height_spread": None,
    "unusual_poses": None,
    "facing": None,
    "overlap": None,
    "objects": (0, 0),
}
# Somebody who faces the viewer, and what an annotator would write down (pixel indices).
FRONTAL = {
    "nose": (100, 30), "left_eye": (104, 26), "right_eye": (96, 26),
    "left_ear": (109, 28), "right_ear": (91, 28),
    "left_shoulder": (122, 52), "right_shoulder": (78, 52), "left_elbow": (130, 84), "right_elbow": (70, 84),
    "left_wrist": (133, 112), "right_wrist": (67, 112), "left_hip": (112, 108), "right_hip": (88, 108),
    "left_knee": (113, 150), "right_knee": (87, 150), "left_ankle": (114, 190), "right_ankle": (86, 190),
}  # fmt: skip


def write(path, people, skeleton=COCO, size=(200, 300)):
    annotations = [
        {
            "id": i + 1,
            "image_id": 7,
            "category_id": 1,
            "iscrowd": 0,
            "keypoints": [
                v for name in skeleton.keypoints for v in ((*known[name], 2) if name in known else (0, 0, 0))
            ],
        }
        for i, known in enumerate(people)
    ]
    content = {
        "images": [{"id": 7, "height": size[0], "width": size[1], "file_name": "7.jpg"}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": []}],
    }
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["people.json", "people.json.gz"])
def test_annotated_keypoints_are_drawn_where_they_were(tmp_path, name):
    path = write(tmp_path / name, [FRONTAL])
    people = SyntheticSource(layouts=path, people=(1, 5), **SETTINGS)[0].annotations
    assert len(people) == 1
    wanted = np.array([FRONTAL[name] for name in COCO.keypoints]) + 0.5
    assert np.allclose(people.keypoints[0, 5:], wanted[5:], atol=1 / 64)
    assert np.abs(people.keypoints[0, :5] - wanted[:5]).max() < 5  # the head is a rigid model
    assert (people.visibility[0, 5:] == VISIBLE).mean() > 0.8
    assert people.visibility[0, 0] == VISIBLE


def test_layouts_are_fitted_into_the_image(tmp_path):
    path = write(tmp_path / "people.json", [FRONTAL], size=(400, 600))
    people = SyntheticSource(layouts=path, people=(1, 5), **SETTINGS)[0].annotations
    wanted = (np.array([FRONTAL[name] for name in COCO.keypoints]) + 0.5) / 2
    assert np.allclose(people.keypoints[0, 5:], wanted[5:], atol=1 / 64)


def test_the_people_of_a_layout_can_fill_the_image(tmp_path):
    far = {name: (x / 4, y / 4) for name, (x, y) in FRONTAL.items()}
    path = write(tmp_path / "people.json", [far], size=(800, 800))
    people = SyntheticSource(layouts=path, people=(1, 5), window="people", **SETTINGS)[0].annotations
    limbs = people.keypoints[0, 5:]  # the head is a rigid model
    source = np.array([far[name] for name in COCO.keypoints])
    factor = SETTINGS["image_size"][0] / (1.25 * np.ptp(source, axis=0).max())
    middle = (source.min(axis=0) + source.max(axis=0)) / 2
    wanted = (source - middle) * factor + np.array(SETTINGS["image_size"])[::-1] / 2
    assert np.allclose(limbs, wanted[5:], atol=1 / 64)


def test_a_turned_back_shows_no_face(tmp_path):
    back = {
        name.replace("left", "x").replace("right", "left").replace("x", "right"): at
        for name, at in FRONTAL.items()
    }
    for hidden in ("nose", "left_eye", "right_eye"):
        del back[hidden]
    people = SyntheticSource(layouts=write(tmp_path / "p.json", [back]), people=(1, 1), **SETTINGS)[
        0
    ].annotations
    assert (people.visibility[0, :3] < VISIBLE).all()
    assert people.keypoints[0, 5, 0] < people.keypoints[0, 6, 0]


@pytest.mark.parametrize(
    "missing", [("wrist", "elbow"), ("hip", "knee", "ankle"), ("nose", "eye", "ear"), ("shoulder",)]
)
def test_missing_keypoints_are_filled_in_near_their_positions(tmp_path, missing):
    known = {name: at for name, at in FRONTAL.items() if name.split("_")[-1] not in missing}
    path = write(tmp_path / "p.json", [known])
    people = SyntheticSource(layouts=path, people=(1, 1), **SETTINGS)[0].annotations
    wanted = np.array([FRONTAL[name] for name in COCO.keypoints]) + 0.5
    labelled = people.visibility[0] != ABSENT
    assert labelled.sum() > len(known)
    assert np.linalg.norm(people.keypoints[0] - wanted, axis=1)[labelled].max() < 30


def test_crowdpose_layouts_serve_a_coco_skeleton_and_back(tmp_path):
    known = {name: at for name, at in FRONTAL.items() if name in CROWDPOSE.keypoints}
    known |= {"head": (100, 12), "neck": (100, 48)}
    path = write(tmp_path / "p.json", [known], CROWDPOSE)
    for skeleton in (COCO, CROWDPOSE):
        people = SyntheticSource(layouts=path, people=(1, 1), skeleton=skeleton, **SETTINGS)[0].annotations
        at = dict(zip(skeleton.keypoints, people.keypoints[0], strict=True))
        assert np.allclose(at["left_knee"], np.array(FRONTAL["left_knee"]) + 0.5, atol=1 / 64)


def test_only_images_with_the_wanted_number_of_usable_people_are_used(tmp_path):
    lone_nose = {"nose": (5, 5)}
    path = write(tmp_path / "p.json", [FRONTAL, lone_nose])
    SyntheticSource(layouts=path, people=(1, 1), **SETTINGS)
    with pytest.raises(ValueError, match=r"p\.json.*2 to 4"):
        SyntheticSource(layouts=path, people=(2, 4), **SETTINGS)


def test_files_that_are_no_layouts_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        SyntheticSource(layouts=tmp_path / "nowhere.json", **SETTINGS)
    for content, message in (
        ("{", "JSON"),
        ("{}", "images"),
        ('{"images": [], "annotations": [], "categories": []}', "category"),
    ):
        path = tmp_path / "bad.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"bad\.json.*{message}"):
            SyntheticSource(layouts=path, **SETTINGS)


@pytest.mark.parametrize(
    "name", ["layouts/coco_person_keypoints_val2017.json.gz", "crowdpose/json/crowdpose_val.json.gz"]
)
def test_real_crowds(shared_data, name):
    source = SyntheticSource(layouts=shared_data / name, people=(1, 30), **SETTINGS)
    counts = [len(source[index].annotations) for index in range(25)]
    assert max(counts) > 3
