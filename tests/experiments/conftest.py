"""Synthetic people to encode and decode, and poses to compare."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swahr.skeleton import COCO
from swahr.structures import Poses

Crowds = Sequence[Sequence[tuple[float, float, float]]]


def _person(left: float, top: float, height: float, image: int, identity: int) -> dict[str, Any]:
    """A person of COCO's 17 keypoints on a grid of whole pixels, all labelled but the first ear."""
    step = round(height / 6)
    keypoints = [[left + step * (i % 3), top + step * (i // 3), 2] for i in range(COCO.num_keypoints)]
    keypoints[3] = [0, 0, 0]
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "bbox": [left, top, 2 * step, 5 * step],
        "area": 5.0 * step**2,
        "keypoints": [value for keypoint in keypoints for value in keypoint],
        "num_keypoints": COCO.num_keypoints - 1,
        "iscrowd": 0,
    }


@pytest.fixture(scope="session")
def write_people() -> Callable[[Path, Crowds], Path]:
    """Writes an annotation file of images 480 pixels high and 640 wide with people of (left, top, height)."""
    return _write


@pytest.fixture
def annotation_file(tmp_path: Path) -> Callable[[Crowds], Path]:
    """The same, into a folder of the test's own."""
    return partial(_write, tmp_path / "people.json")


@pytest.fixture
def poses_at() -> Callable[..., Poses]:
    """Makes poses ten pixels from each other, each with all its keypoints at one place, by their shifts."""

    def build(*shifts: float) -> Poses:
        keypoints = np.stack([np.full((17, 2), 10.0 * i + shift) for i, shift in enumerate(shifts)])
        shape = keypoints.shape[:2]
        return Poses(keypoints, np.ones(shape), np.ones(len(shifts)), np.ones(shape, dtype=bool), COCO)

    return build


def _write(path: Path, images: Crowds) -> Path:
    people = [
        _person(*place, image=image, identity=100 * image + i)
        for image, places in enumerate(images, start=1)
        for i, place in enumerate(places)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    sizes = [{"id": i + 1, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in range(len(images))]
    path.write_text(json.dumps({"images": sizes, "annotations": people, "categories": [category]}))
    return path
