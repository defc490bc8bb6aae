"""Reading and checking annotation files in COCO's keypoint format.

The format: https://cocodataset.org/#format-data (object and keypoint detection).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from swahr.skeleton import Skeleton

_AREA_OF_BOX = 0.53  # the mean share of its box that a person fills; CrowdPose's files have no area
_IMAGE_KEYS = ("id", "file_name", "height", "width")
_ANNOTATION_KEYS = ("id", "image_id", "category_id", "bbox", "keypoints")


@dataclass(frozen=True, eq=False)
class PersonRecord:
    """One annotation: a person, or a crowd region. Frame: image, as the file has it (pixel indices).

    ``entry`` is the file's dictionary without keypoints, segmentation and area. ``segmentation`` is kept
    only where it is needed to mask the region out.
    """

    entry: dict[str, Any]
    keypoints: Float64[np.ndarray, "k 3"]
    area: float
    segmentation: Any

    @property
    def num_labelled(self) -> int:
        """The number of labelled keypoints (training never reads the file's own, which is not reliable)."""
        return int(np.count_nonzero(self.keypoints[:, 2]))

    @property
    def is_crowd(self) -> bool:
        """Whether this is a region with many people, none of them annotated."""
        return bool(self.entry.get("iscrowd", 0))

    @property
    def is_taught(self) -> bool:
        """Whether there is something to learn from; the other regions are masked out."""
        return self.num_labelled > 0 and not self.is_crowd


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image with its annotations; ``entry`` is the file's dictionary."""

    entry: dict[str, Any]
    people: tuple[PersonRecord, ...]

    @property
    def image_id(self) -> int:
        """The file's id of the image."""
        return int(self.entry["id"])

    @property
    def size(self) -> tuple[int, int]:
        """The annotated size (h, w)."""
        return int(self.entry["height"]), int(self.entry["width"])


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A checked annotation file."""

    images: tuple[ImageRecord, ...]
    category: dict[str, Any]
    skeleton: Skeleton


def read_coco_file(path: Path, skeleton: Skeleton | None) -> CocoFile:
    """Read and check a COCO-format keypoint file, ``.json`` or ``.json.gz``.

    Args:
        path: the file.
        skeleton: what the keypoints must be; by default the file's own category says it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed, inconsistent, annotates nobody or has another skeleton.
    """
    content = _read_json(path)
    category = _keypoint_category(path, content["categories"], skeleton)
    skeleton = _checked_skeleton(path, category, skeleton)
    images = {}
    for entry in content["images"]:
        where = f"{path}: image {entry.get('id')!r}"
        _require_keys(entry, _IMAGE_KEYS, where)
        _require_integers(entry, ("id", "height", "width"), where)
        images[entry["id"]] = entry
    _require_distinct(path, "image", [entry["id"] for entry in content["images"]])
    people: dict[int, list[PersonRecord]] = {image_id: [] for image_id in images}
    entries = [entry for entry in content["annotations"] if entry.get("category_id") == category["id"]]
    _require_distinct(path, "annotation", [entry.get("id") for entry in entries])
    for entry in entries:
        person = _person(entry, f"{path}: annotation {entry.get('id')!r}", skeleton, images)
        people[entry["image_id"]].append(person)
    if not any(person.is_taught for group in people.values() for person in group):
        raise ValueError(
            f"{path}: expected annotated people, got {len(entries)} annotations of category "
            f"{category['id']} and no labelled keypoint; check that this is a keypoint file"
        )
    records = tuple(ImageRecord(entry, tuple(people[image_id])) for image_id, entry in images.items())
    return CocoFile(records, {**category, "keypoints": list(skeleton.keypoints)}, skeleton)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected an annotation file, but there is none; check the data root, or get the file"
        )
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: expected JSON, but it does not parse ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
            f"{path}: expected a COCO-format mapping, got a {type(content).__name__} (a results file, "
            f"perhaps); give the annotations"
        )
    _require_keys(content, ("images", "annotations", "categories"), str(path))
    return content


def _require_keys(entry: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    if missing := [key for key in keys if key not in entry]:
        raise ValueError(
            f"{where}: expected the keys {list(keys)}, but {missing} are missing; add them to the file"
        )


def _require_integers(entry: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    if bad := {key: entry[key] for key in keys if not isinstance(entry[key], int)}:
        raise ValueError(f"{where}: expected integers, got {bad}; write them without quotes or fractions")


def _require_distinct(path: Path, kind: str, ids: Sequence[Any]) -> None:
    if repeated := [identity for identity, count in Counter(ids).items() if count > 1]:
        raise ValueError(
            f"{path}: expected every {kind} id once, but {repeated[:5]} stand for several; renumber them"
        )


def _keypoint_category(
    path: Path, categories: Sequence[dict[str, Any]], skeleton: Skeleton | None
) -> dict[str, Any]:
    named = [category for category in categories if category.get("keypoints")]
    candidates = named or (categories if skeleton is not None else [])
    if len(candidates) != 1:
        raise ValueError(
            f"{path}: expected one category with 'keypoints' names, got {len(candidates)} of "
            f"{len(categories)}; add the names to the category, or keep one category"
        )
    _require_keys(candidates[0], ("id",), f"{path}: category")
    return dict(candidates[0])


def _checked_skeleton(path: Path, category: Mapping[str, Any], skeleton: Skeleton | None) -> Skeleton:
    names = tuple(category.get("keypoints") or ())
    if skeleton is None:
        return Skeleton.from_category(category, source=str(path))
    if names and names != skeleton.keypoints:
        raise ValueError(
            f"{path}: expected the keypoints of skeleton '{skeleton.name}', {list(skeleton.keypoints)}, but "
            f"the file annotates {list(names)}: wrong skeleton for the data; give the one that fits, or none"
        )
    return skeleton


def _person(
    entry: Mapping[str, Any], where: str, skeleton: Skeleton, images: Mapping[int, Any]
) -> PersonRecord:
    _require_keys(entry, _ANNOTATION_KEYS, where)
    _require_integers(entry, ("id", "image_id"), where)
    if entry["image_id"] not in images:
        raise ValueError(
            f"{where}: expected the id of one of the file's {len(images)} images, got image_id "
            f"{entry['image_id']!r}; add the image or drop the annotation"
        )
    keypoints = _keypoints(_numbers(entry["keypoints"], f"{where}: 'keypoints'"), where, skeleton)
    box = _numbers(entry["bbox"], f"{where}: 'bbox'")
    if len(box) != 4:
        raise ValueError(
            f"{where}: expected 'bbox' to be [x, y, width, height], got {entry['bbox']}; correct it"
        )
    area = entry.get("area")
    area = _AREA_OF_BOX * box[2] * box[3] if area is None else _numbers([area], f"{where}: 'area'")[0]
    dropped = ("keypoints", "segmentation", "area")
    person = PersonRecord(
        entry={key: value for key, value in entry.items() if key not in dropped},
        keypoints=keypoints,
        area=float(area),
        segmentation=entry.get("segmentation"),
    )
    if person.is_taught:  # its outline is never needed, and outlines are most of a file's size
        return PersonRecord(person.entry, person.keypoints, person.area, segmentation=None)
    return person


def _numbers(values: Any, where: str) -> Float64[np.ndarray, " n"]:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"{where}: expected a list of finite numbers, got {values!r}; correct it")
    return numbers


def _keypoints(
    values: Float64[np.ndarray, " n"], where: str, skeleton: Skeleton
) -> Float64[np.ndarray, "k 3"]:
    expected = 3 * skeleton.num_keypoints
    if len(values) != expected:
        raise ValueError(
            f"{where}: expected {expected} numbers in 'keypoints' (x, y, visibility of "
            f"{skeleton.num_keypoints} keypoints of skeleton '{skeleton.name}'), got {len(values)}; "
            f"correct the annotation or the category's names"
        )
    keypoints = values.reshape(-1, 3)
    if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
        raise ValueError(
            f"{where}: expected visibilities 0, 1 or 2, got {keypoints[:, 2].tolist()}; correct them"
        )
    return keypoints
