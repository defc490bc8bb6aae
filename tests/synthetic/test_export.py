import contextlib
import gzip
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from swahr.data.coco import CocoSource
from swahr.geometry import INDEX_FROM_POINT
from swahr.skeleton import CROWDPOSE, Skeleton
from swahr.structures import ABSENT
from swahr.synthetic import SyntheticSource, render_dataset
from swahr.synthetic.scene import crowd_index

STICKS = Skeleton.from_dict(
    {
        "name": "person",
        "keypoints": ["head", "left_hand", "right_hand"],
        "limbs": [["head", "left_hand"], ["head", "right_hand"]],
        "sigmas": [0.05, 0.06, 0.06],
        "grouping_order": ["left_hand", "right_hand", "head"],
    }
)


def test_ground_truth_agrees_exactly_with_the_images():
    source = SyntheticSource(size=12, seed=4, people=(1, 6), image_size=(200, 260))
    truth = source.ground_truth()
    assert source.ground_truth() is truth
    assert [image["id"] for image in truth["images"]] == list(range(1, 13))
    for index, image in enumerate(truth["images"]):
        sample = source[index]
        assert (image["width"], image["height"]) == (260, 200)
        rows = [a for a in truth["annotations"] if a["image_id"] == sample.image_id and a["num_keypoints"]]
        assert len(rows) == len(sample.annotations)
        for row, points, flags, area in zip(
            rows,
            sample.annotations.keypoints,
            sample.annotations.visibility,
            sample.annotations.area,
            strict=True,
        ):
            triples = np.array(row["keypoints"]).reshape(-1, 3)
            assert np.array_equal(triples[:, 2], flags)
            labelled = flags != ABSENT
            assert np.array_equal(triples[labelled, :2], INDEX_FROM_POINT.apply(points[labelled]))
            assert (triples[~labelled] == 0).all()
            assert row["num_keypoints"] == labelled.sum()
            assert row["area"] == area
            left, top, wide, high = row["bbox"]
            assert left >= 0
            assert top >= 0
            assert left + wide <= 260
            assert top + high <= 200
            assert area <= wide * high


def test_an_exported_dataset_reads_back_with_coco_tools(tmp_path):
    from pycocotools.coco import COCO

    source = SyntheticSource(size=4, seed=6, skeleton=STICKS)
    done = []
    path = render_dataset(source, tmp_path / "crowds", progress=lambda: done.append(1))
    assert len(done) == 4
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(path))
    assert Skeleton.from_category(read.loadCats([1])[0]) == STICKS
    for index, image_id in enumerate(sorted(read.getImgIds())):
        file = path.parent.parent / "images" / read.loadImgs([image_id])[0]["file_name"]
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        assert np.abs(picture.astype(int) - source[index].image).mean() < 6
    assert json.loads(path.read_text()) == source.ground_truth()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_rendered_dataset_trains_like_photographs(tmp_path):
    source = SyntheticSource(size=3, seed=8)
    path = render_dataset(source, tmp_path)
    read = CocoSource(path, tmp_path / "images")
    for index in range(3):
        ours, theirs = source[index].annotations, read[index].annotations
        shown = ours.visibility != ABSENT
        assert np.array_equal(ours.visibility, theirs.visibility)
        assert np.array_equal(ours.keypoints[shown], theirs.keypoints[shown])
        assert np.array_equal(ours.area, theirs.area)


def test_crowdpose_style_has_crowd_indices_and_no_areas(tmp_path):
    source = SyntheticSource(size=5, skeleton=CROWDPOSE, people=(1, 6))
    content = json.loads(render_dataset(source, tmp_path, style="crowdpose").read_text())
    assert all("area" not in annotation for annotation in content["annotations"])
    indices = [image["crowdIndex"] for image in content["images"]]
    assert min(indices) >= 0
    assert max(indices) > 0
    assert content["categories"][0]["keypoints"] == list(CROWDPOSE.keypoints)


def test_crowd_index_by_hand():
    scene = SyntheticSource(size=1, people=(2, 2), objects=(0, 0), skeleton=STICKS, seed=3).scene(0)
    points = np.array([[[1, 1], [2, 2], [3, 3]], [[3, 4], [8, 8], [9, 9]]], dtype=np.float64)
    boxes = np.array([[0, 0, 5, 5], [3, 3, 7, 7]], dtype=np.float64)
    flags = np.array([[2, 2, 1], [1, 2, 0]])
    scene = replace(scene, keypoints=points, boxes=boxes, visibility=flags, area=np.ones(2))
    # The first box holds one foreign keypoint of three own ones, the second one of two.
    assert crowd_index(scene) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert crowd_index(replace(scene, keypoints=points[:0], visibility=flags[:0])) == 0.0


def test_crowd_index_is_that_of_crowdposes_own_files(shared_data):
    content = json.loads(gzip.decompress((shared_data / "crowdpose/json/crowdpose_val.json.gz").read_bytes()))
    template = SyntheticSource(size=1, people=(0, 0)).scene(0)
    people: dict[int, list] = {}
    for annotation in content["annotations"]:
        if annotation["num_keypoints"]:
            people.setdefault(annotation["image_id"], []).append(annotation)
    close = []
    for image in content["images"]:
        found = people[image["id"]]
        triples = np.array([a["keypoints"] for a in found], dtype=np.float64).reshape(len(found), -1, 3)
        scene = replace(
            template,
            keypoints=triples[..., :2],
            visibility=triples[..., 2].astype(np.int64),
            boxes=np.array([a["bbox"] for a in found], dtype=np.float64),
            area=np.ones(len(found)),
        )
        close.append(abs(crowd_index(scene) - image["crowdIndex"]) < 0.02)
    assert np.mean(close) > 0.75
