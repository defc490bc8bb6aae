"""Results files."""

import json
from pathlib import Path

import numpy as np
import pytest

from swahr.evaluation import read_results, results_from_poses, write_results
from swahr.skeleton import COCO
from swahr.structures import Poses


def poses(people: int) -> Poses:
    keypoints = np.arange(people * 34, dtype=np.float64).reshape(people, 17, 2)
    present = np.ones((people, 17), dtype=bool)
    scores = np.full((people, 17), 0.25)
    if people:
        present[0, 3], keypoints[0, 3], scores[0, 3] = False, np.nan, 0.0
    return Poses(
        keypoints=keypoints, scores=scores, score=np.linspace(0.5, 1, people), present=present, skeleton=COCO
    )


def test_convention_results_hold_pixel_indices():
    first, _, last = results_from_poses({7: poses(2), 8: poses(0), 9: poses(1)})
    assert (first["image_id"], last["image_id"], first["category_id"]) == (7, 9, 1)
    assert first["score"] == 0.5
    assert first["keypoints"][:6] == [-0.5, 0.5, 0.25, 1.5, 2.5, 0.25]
    assert len(first["keypoints"]) == 51


def test_missing_keypoints_are_three_zeros():
    assert results_from_poses({7: poses(1)})[0]["keypoints"][9:12] == [0, 0, 0]


def test_written_results_are_read_back(tmp_path: Path):
    results = results_from_poses({7: poses(2)})
    path = tmp_path / "run" / "results.json"
    write_results(path, results)
    assert read_results(path) == results
    write_results(path, [])
    assert read_results(path) == []
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "results.json"
    write_results(path, results_from_poses({7: poses(1)}))
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(path, [{"score": float("nan")}])
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


GOOD = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{not json", ValueError, "expected JSON, but it does not parse"),
        ("[{}", ValueError, "expected JSON, but it does not parse"),
        ('{"images": []}', TypeError, "expected a JSON list of results, got dict"),
        ("[3]", TypeError, "result 0: expected an object"),
        (
            json.dumps([GOOD, {k: v for k, v in GOOD.items() if k != "score"}]),
            ValueError,
            r"result 1: .*\['score'\] are missing",
        ),
        (json.dumps([GOOD | {"keypoints": [1, 2]}]), ValueError, "x, y, score triples"),
        (json.dumps([GOOD | {"keypoints": [1, 2, float("nan")]}]), ValueError, "list of finite numbers"),
        (json.dumps([GOOD | {"keypoints": "abc"}]), ValueError, "list of finite numbers"),
        (json.dumps([GOOD | {"keypoints": ["1", "2", "0.5"]}]), ValueError, "list of finite numbers"),
        (
            json.dumps([GOOD | {"score": None}]),
            ValueError,
            r"'score': .* finite numbers, got \[None\]",
        ),
        (
            json.dumps([GOOD | {"image_id": "7.jpg"}]),
            ValueError,
            "result 0: 'image_id': expected an integer, got '7.jpg'",
        ),
        (
            json.dumps([GOOD, GOOD | {"image_id": None}]),
            ValueError,
            "result 1: 'image_id': expected an integer",
        ),
        (json.dumps([GOOD, GOOD | {"category_id": "x"}]), ValueError, "result 1: 'category_id': expected an"),
        (
            json.dumps([GOOD, GOOD | {"score": float("nan")}]),
            ValueError,
            "result 1: 'score': .*finite numbers",
        ),
        (json.dumps([GOOD, GOOD | {"keypoints": None}]), ValueError, "result 1: 'keypoints': .*got None"),
        (json.dumps([GOOD, None]), TypeError, "result 1: expected an object .*, got NoneType"),
    ],
)
def test_malformed_files_are_named_with_what_is_wrong(
    tmp_path: Path, content: str, error: type, message: str
):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(error, match=message) as caught:
        read_results(path)
    assert "mine.json" in str(caught.value)


@pytest.mark.parametrize("spell", [str, float])
def test_ids_are_integers_however_they_are_written(tmp_path: Path, spell: type):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([GOOD | {"image_id": spell(1), "category_id": spell(1), "bbox": None}]))
    assert read_results(path) == [GOOD | {"bbox": None}]


def test_ids_above_double_precision_stay_exact(tmp_path: Path):
    path = tmp_path / "mine.json"
    ids = [2**53, 2**53 + 1, str(2**53 + 2)]
    path.write_text(json.dumps([GOOD | {"image_id": image_id} for image_id in ids]))
    assert [result["image_id"] for result in read_results(path)] == [2**53, 2**53 + 1, 2**53 + 2]


def test_no_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_results(tmp_path / "none.json")
