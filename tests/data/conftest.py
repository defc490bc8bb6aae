"""Small annotation files and sources for the tests of the data stage."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage

KEYPOINTS = ["left_hand", "right_hand", "head"]


def _annotation(number: int, image_id: int, keypoints: list[float], **entries: Any) -> dict[str, Any]:
    base = {"id": number, "image_id": image_id, "category_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 0}
    return base | {"keypoints": keypoints, "area": 500.5, "num_keypoints": 99} | entries


_CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 80, "width": 60},
        {"id": 3, "file_name": "sub/b.png", "height": 50, "width": 90, "crowdIndex": 0.5},
        {"id": 5, "file_name": "c.png", "height": 33, "width": 47},
    ],
    "annotations": [
        _annotation(1, 7, [10, 20, 2, 30, 40, 1, 0, 0, 0]),
        _annotation(2, 7, [0] * 9, bbox=[40, 60, 10, 10]),
        _annotation(4, 3, [5, 6, 2, 7, 8, 2, 9, 10, 1]),
    ],
    "categories": [{"id": 1, "name": "puppet", "keypoints": KEYPOINTS, "skeleton": [[1, 3], [2, 3]]}],
}


@pytest.fixture
def content() -> dict[str, Any]:
    """A valid annotation file: three images, one with an unlabelled person, one without anybody."""
    return copy.deepcopy(_CONTENT)


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write an annotation file and an image for each entry; gives the file and the images folder."""

    def write(content: Any, name: str = "people.json") -> tuple[Path, Path]:
        path = tmp_path / name
        path.write_text(json.dumps(content), encoding="utf-8")
        for entry in content["images"]:
            file = tmp_path / "images" / entry["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), np.full((entry["height"], entry["width"], 3), 100, dtype=np.uint8))
        return path, tmp_path / "images"

    return write


class NumberedSource:
    """Images whose id is their index, each with ``index % 3`` people."""

    skeleton = Skeleton.from_dict({"keypoints": KEYPOINTS})

    def __init__(self, length: int, unbounded: bool = False) -> None:
        self.length, self.unbounded = length, unbounded

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> LabelledImage:
        assert index < self.length or self.unbounded
        rng = np.random.default_rng(index)
        people = index % 3
        return LabelledImage(
            image=rng.integers(0, 256, (40, 50, 3), dtype=np.uint8),
            annotations=Annotations(
                keypoints=rng.uniform(10, 30, (people, 3, 2)),
                visibility=np.full((people, 3), 2, dtype=np.int64),
                area=np.full(people, 100.0),
            ),
            valid=np.ones((40, 50), dtype=bool),
            image_id=index,
        )

    def ground_truth(self) -> dict[str, Any]:
        return {}

    def describe(self, index: int) -> str:
        return f"number {index}"


@pytest.fixture
def numbered_source() -> type[NumberedSource]:
    return NumberedSource
