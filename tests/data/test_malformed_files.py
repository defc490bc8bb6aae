"""Annotation files with random faults are read, or refused by file and entry, in bounded memory."""

import copy
import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.data import CocoSource

_NAMES = ["nose", "left_eye", "right_eye"]
_VALID: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 8, "file_name": "b.png", "height": 20, "width": 30},
    ],
    "annotations": [
        {
            "id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "num_keypoints": 2, "area": 50.5,
            "bbox": [1, 2, 10.5, 12], "keypoints": [2, 3, 2, 4, 5, 1, 0, 0, 0],
            "segmentation": [[1, 2, 11, 2, 11, 14]],
        },
        {
            "id": 2, "image_id": 7, "category_id": 1, "iscrowd": 0, "num_keypoints": 0, "area": 60,
            "bbox": [12, 2, 10, 10], "keypoints": [0] * 9, "segmentation": [[12, 2, 22, 2, 22, 12, 12, 12]],
        },
        {
            "id": 3, "image_id": 7, "category_id": 1, "iscrowd": 1, "num_keypoints": 0, "area": 9,
            "bbox": [5, 2, 3, 3], "keypoints": [0] * 9,
            "segmentation": {"size": [20, 30], "counts": [44, 5, 551]},
        },
        {
            "id": 4, "image_id": 8, "category_id": 1, "iscrowd": 1, "num_keypoints": 0, "area": 9,
            "bbox": [5, 2, 3, 3], "keypoints": [0] * 9,
            "segmentation": {"size": [20, 30], "counts": "V33a0000f="},
        },
        {"id": 5, "image_id": 8, "category_id": 2, "bbox": [5, 2, 3, 3]},
    ],
    "categories": [
        {
            "id": 1, "name": "person", "keypoints": _NAMES, "skeleton": [[1, 2], ["nose", "right_eye"]],
            "flip_pairs": [["left_eye", "right_eye"]], "sigmas": [0.1, 0.2, 0.2], "grouping_order": _NAMES,
        },
        {"id": 2, "name": "dog"},
    ],
}  # fmt: skip
_VALUES = [
    None, True, "", "text", "1", "\ud800", "\0", "x" * 300, [], [[]], [1, 2], [None], ["left_eye"], {},
    {"a": 1}, -1, -5, 0, 0.5, 2, 7, 300, 2**31, 2**53 + 1, 2**63, 10**30, 10**400, -(10**400),
    1e9, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), [[0, 0, 1e6, 0, 0, 1e6]],
    {"size": [20, 30], "counts": "0"},
]  # fmt: skip
_MEMORY = 300 * 2**20  # bytes
_NAMED = (
    r"people\.json: (expected|skeleton|the category|image|annotation|category)|image \d+ of .*people\.json"
)
_REMOVE, _DUPLICATE = "remove", "duplicate"


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON value, its own included."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _places(value, (*path, key))


@st.composite
def _faulty(draw: st.DrawFn) -> Any:
    content = {"root": copy.deepcopy(_VALID)}
    for _ in range(draw(st.integers(1, 3))):
        *parents, key = draw(st.sampled_from([*_places(content)][1:]))
        node: Any = content
        for parent in parents:
            node = node[parent]
        change = draw(st.sampled_from([_REMOVE, _DUPLICATE, *range(len(_VALUES))]))
        if isinstance(change, int):
            node[key] = copy.deepcopy(_VALUES[change])
        elif change is _DUPLICATE and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif len(parents) > 0:
            del node[key]
    return content["root"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("malformed")
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(path / name), np.full((20, 30, 3), 100, dtype=np.uint8))
    return path


def _opened(folder: Path, content: Any) -> None:
    path = folder / "people.json"
    path.write_text(json.dumps(content))
    source = CocoSource(path, folder)
    for person in source.ground_truth()["annotations"]:
        assert np.isfinite([*person["bbox"], person["area"], *person["keypoints"]]).all()
    for index in range(len(source)):
        source[index]


def test_the_file_without_faults_is_read(folder: Path) -> None:
    _opened(folder, _VALID)


def _error(folder: Path, content: Any) -> str | None:
    try:
        _opened(folder, content)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None)
@given(content=_faulty())
def test_malformed_files_are_read_or_refused_by_name(folder: Path, content: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if (message := _error(folder, content)) is not None:
        assert re.search(_NAMED, message)
        assert len(message) < 9_000
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < _MEMORY
