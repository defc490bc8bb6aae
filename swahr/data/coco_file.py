"""Checked annotation files in COCO's keypoint format."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
from jaxtyping import Float64

from swahr import coco_json
from swahr.data.regions import check_segmentation, region_box
from swahr.files import integer
from swahr.geometry import POINT_FROM_INDEX
from swahr.skeleton import Skeleton

_IMAGE_KEYS = ("id", "file_name", "height", "width")
_ANNOTATION_KEYS = ("id", "image_id", "category_id")
_NOT_IN_ENTRY = ("keypoints", "num_keypoints", "segmentation", "area")
_LONGEST_SIDE, _MOST_PIXELS = 2**20, 2**30  # OpenCV reads no larger images


@dataclass(frozen=True, eq=False)
class CocoAnnotation:
    """One annotation: a person or a crowd region. Frame: image, in pixel indices.

    Attributes:
        entry: the JSON object without keypoints, segmentation and area; ids and flags are integers.
        keypoints: (x, y, visibility).
        area: square pixels; `AREA_OF_BOX` times the box if the file has no area.
        segmentation: as in the file; None for labelled people, for whom it is not used.
        filled: which of ``keypoints``, ``bbox`` and ``area`` the file lacks. Without keypoints, a person is
            unlabelled. Without a box, it is that of the labelled keypoints, else of the segmentation, else
            empty: then nothing is masked.
    """

    entry: dict[str, Any]
    keypoints: Float64[np.ndarray, "k 3"]
    area: float
    segmentation: Any
    filled: tuple[str, ...] = ()

    @property
    def num_labelled(self) -> int:
        """The number of labelled keypoints, which may differ from ``num_keypoints`` in the file."""
        return int(np.count_nonzero(self.keypoints[:, 2]))

    @property
    def is_labelled(self) -> bool:
        """Whether this is one person with labelled keypoints; other regions are masked."""
        return self.num_labelled > 0 and not self.entry.get("iscrowd", 0)


@dataclass(frozen=True, eq=False)
class CocoImage:
    """One image with its annotations; ``entry`` is the JSON object."""

    entry: dict[str, Any]
    annotations: tuple[CocoAnnotation, ...]

    @property
    def image_id(self) -> int:
        """The image's id in the file."""
        return int(self.entry["id"])

    @property
    def size(self) -> tuple[int, int]:
        """The annotated size (h, w)."""
        return int(self.entry["height"]), int(self.entry["width"])


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A checked annotation file."""

    images: tuple[CocoImage, ...]
    category: dict[str, Any]
    skeleton: Skeleton


def read_coco_file(path: Path, skeleton: Skeleton | None) -> CocoFile:
    """A COCO-format keypoint file, ``.json`` or ``.json.gz``; ``skeleton`` None is that of its category.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is malformed or inconsistent, or has no labelled person or another skeleton.
    """
    # The category, its skeleton and the images, each checked.
    content = coco_json.read_dataset(path)
    categories = _with_ids(path, "category", content["categories"], ("id",))
    category = _keypoint_category(path, categories, skeleton)
    skeleton = _checked_skeleton(path, category, skeleton)
    images = {image["id"]: image for image in _images(path, content["images"])}
    # The annotations of that category, by image.
    entries = _of_category(path, content["annotations"], category["id"], [c["id"] for c in categories])
    annotations: dict[int, list[CocoAnnotation]] = {image_id: [] for image_id in images}
    for entry in entries:
        where = f"{path}: annotation {entry['id']}"
        if (image := images.get(entry["image_id"])) is None:
            raise ValueError(
                f"{where}: expected the id of one of the file's {len(images)} images, got image_id "
                f"{entry['image_id']}; add the image or drop the annotation"
            )
        size = (image["height"], image["width"])
        annotations[entry["image_id"]].append(_annotation(entry, where, skeleton, size))
    if not any(annotation.is_labelled for people in annotations.values() for annotation in people):
        raise ValueError(
            f"{path}: expected annotated people, got {len(entries)} annotations of its keypoint category and "
            "no labelled keypoint; check that this is a keypoint file"
        )
    found = tuple(CocoImage(entry, tuple(annotations[image_id])) for image_id, entry in images.items())
    return CocoFile(found, {**category, "keypoints": list(skeleton.keypoints)}, skeleton)


def _with_ids(
    path: Path, kind: str, entries: Iterable[Mapping[str, Any]], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """The entries with the values of ``keys`` as integers, the first of which is a distinct id."""
    checked = []
    for position, entry in enumerate(entries):
        where = _where(path, kind, position, entry)
        coco_json.require_keys(entry, keys, where)
        checked.append({**entry, **{key: integer(entry[key], f"{where}: '{key}'") for key in keys}})
    counts = Counter(entry["id"] for entry in checked)
    if repeated := [entry_id for entry_id, count in counts.items() if count > 1]:
        raise ValueError(f"{path}: expected every {kind} id once, but {repeated[:5]} are repeated; renumber")
    return checked


def _where(path: Path, kind: str, position: int, entry: Mapping[str, Any]) -> str:
    """The beginning of an error message about an entry: its id or, if it has none, its position from 0."""
    named = isinstance(entry.get("id"), str | int | float)
    return f"{path}: {kind} {shown(entry['id']) if named else f'at position {position}'}"


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
    return dict(candidates[0])


def _checked_skeleton(path: Path, category: Mapping[str, Any], skeleton: Skeleton | None) -> Skeleton:
    if skeleton is None:
        return Skeleton.from_category(category, source=str(path))
    if (names := category.get("keypoints")) and names != list(skeleton.keypoints):
        raise ValueError(
            f"{path}: expected the keypoints of skeleton '{skeleton.name}', {list(skeleton.keypoints)}, got "
            f"{names}: wrong skeleton for the data; give the one that fits, or none"
        )
    return skeleton


def _images(path: Path, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    for position, entry in enumerate(entries):
        coco_json.require_keys(entry, _IMAGE_KEYS, _where(path, "image", position, entry))
    images = _with_ids(path, "image", entries, ("id", "height", "width"))
    for image in images:
        where, name = f"{path}: image {image['id']}", image["file_name"]
        sides = image["height"], image["width"]
        if min(sides) < 1 or max(sides) > _LONGEST_SIDE or math.prod(sides) > _MOST_PIXELS:
            raise ValueError(
                f"{where}: expected a height and width from 1 to {_LONGEST_SIDE} and at most {_MOST_PIXELS} "
                f"pixels, got {sides}; correct them"
            )
        if not isinstance(name, str) or not name.strip() or re.search("[\0\ud800-\udfff]", name):
            raise ValueError(f"{where}: expected the name of a file as 'file_name', got {name!r}; correct it")
    return images


def _of_category(
    path: Path, entries: Iterable[Mapping[str, Any]], category: int, known: Sequence[int]
) -> list[dict[str, Any]]:
    """The annotations of one category; the ids of all categories are ``known``."""
    chosen = []
    for position, entry in enumerate(entries):
        where = _where(path, "annotation", position, entry)
        coco_json.require_keys(entry, _ANNOTATION_KEYS[2:], where)
        if (found := integer(entry["category_id"], f"{where}: 'category_id'")) not in known:
            raise ValueError(
                f"{where}: expected the id of one of the file's categories, {shown(known)}, got category_id "
                f"{found}; add the category or drop the annotation"
            )
        if found == category:
            chosen.append(entry)
    return _with_ids(path, "annotation", chosen, _ANNOTATION_KEYS)


def _annotation(
    entry: Mapping[str, Any], where: str, skeleton: Skeleton, size: tuple[int, int]
) -> CocoAnnotation:
    """The annotation in an ``entry`` whose ids are checked; ``size`` (h, w) is that of the image."""
    filled = tuple(key for key in ("keypoints", "bbox", "area") if entry.get(key) in (None, []))
    keypoints = np.zeros((skeleton.num_keypoints, 3))
    if "keypoints" not in filled:
        keypoints = _keypoints(entry["keypoints"], skeleton, where)
    remaining = {key: value for key, value in entry.items() if key not in _NOT_IN_ENTRY}
    remaining |= _flag_and_count(entry, where, counted="keypoints" not in filled)
    # Segmentations are most of a file's size, and those of labelled people are not used.
    labelled = not remaining["iscrowd"] and bool(keypoints[:, 2].any())
    segmentation = None if labelled else entry.get("segmentation") or None
    check_segmentation(segmentation, size, f"{where}: 'segmentation'")
    if "bbox" in filled:
        remaining["bbox"] = region_box(segmentation, size) or _box_of(keypoints)
    area = _area(remaining["bbox"], entry.get("area"), where)
    return CocoAnnotation(remaining, keypoints, area, segmentation, filled)


def _keypoints(values: Any, skeleton: Skeleton, where: str) -> Float64[np.ndarray, "k 3"]:
    """The (x, y, visibility) of one person; what is no number where visibility is 0 becomes 0."""
    if not isinstance(values, list):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
            f"{where}: expected a list of numbers as 'keypoints', got {shown(values)}"
        )
    coco_json.require_triples(values, skeleton, where)
    triples = values.copy()
    for v in range(2, len(values), 3):
        triples[v] = integer(values[v], f"{where}: 'keypoints': visibility")
        if triples[v] == 0:
            triples[v - 2 : v] = [0 if _is_missing(value) else value for value in values[v - 2 : v]]
        elif triples[v] not in (1, 2):
            raise ValueError(f"{where}: expected visibilities 0, 1 or 2, got {values[v]}; correct them")
    return coco_json.finite_numbers(triples, f"{where}: 'keypoints'").reshape(-1, 3)


def _is_missing(coordinate: Any) -> bool:
    return coordinate is None or (isinstance(coordinate, float) and not math.isfinite(coordinate))


def _flag_and_count(entry: Mapping[str, Any], where: str, *, counted: bool) -> dict[str, int]:
    """``iscrowd`` and, if there are keypoints and a count of them, ``num_keypoints``."""
    flag, count = entry.get("iscrowd"), entry.get("num_keypoints")
    numbers = {"iscrowd": int(flag or 0) if flag is None or isinstance(flag, bool) else flag}
    if counted and count is not None:
        numbers["num_keypoints"] = count
    numbers = {key: integer(value, f"{where}: '{key}'") for key, value in numbers.items()}
    if numbers["iscrowd"] not in (0, 1) or numbers.get("num_keypoints", 0) < 0:
        raise ValueError(
            f"{where}: expected 'iscrowd' 0 or 1 and 'num_keypoints' from 0, got {numbers}; correct them"
        )
    return numbers


def _box_of(keypoints: Float64[np.ndarray, "k 3"]) -> list[float]:
    return coco_json.bounding_box(POINT_FROM_INDEX.apply(keypoints[keypoints[:, 2] > 0, :2]))


def _area(box: Any, area: Any, where: str) -> float:
    sides = coco_json.finite_numbers(box, f"{where}: 'bbox'")
    if len(sides) != 4 or (sides[2:] < 0).any():
        raise ValueError(
            f"{where}: expected 'bbox' [x, y, width, height] with sides from 0, got {shown(box)}; correct it"
        )
    if area is None:
        return float(coco_json.AREA_OF_BOX * sides[2] * sides[3])
    (number,) = coco_json.finite_numbers([area], f"{where}: 'area'")
    if number < 0:
        raise ValueError(f"{where}: expected an 'area' from 0, got {area}; correct it, or leave it out")
    return float(number)
