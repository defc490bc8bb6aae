"""Checked annotation files in COCO's keypoint format."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from swahr import coco_json
from swahr.skeleton import Skeleton

_IMAGE_KEYS = ("id", "file_name", "height", "width")
_ANNOTATION_KEYS = ("id", "image_id", "category_id", "bbox", "keypoints")


@dataclass(frozen=True, eq=False)
class CocoAnnotation:
    """One annotation: a person or a crowd region. Frame: image, in pixel indices.

    Attributes:
        entry: the JSON object without keypoints, segmentation and area.
        keypoints: (x, y, visibility).
        area: square pixels; `AREA_OF_BOX` times the box if the file has no area.
        segmentation: as in the file; None for labelled people, for whom it is not used.
    """

    entry: dict[str, Any]
    keypoints: Float64[np.ndarray, "k 3"]
    area: float
    segmentation: Any

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
    category = _keypoint_category(path, content["categories"], skeleton)
    skeleton = _checked_skeleton(path, category, skeleton)
    images = _images_by_id(path, content["images"])
    # The annotations of that category, by image.
    entries = [entry for entry in content["annotations"] if entry.get("category_id") == category["id"]]
    _check_distinct(path, "annotation", entries)
    annotations: dict[int, list[CocoAnnotation]] = {image_id: [] for image_id in images}
    for entry in entries:
        where = f"{path}: annotation {entry.get('id')!r}"
        annotation = _annotation(entry, where, skeleton)
        if entry["image_id"] not in images:
            raise ValueError(
                f"{where}: expected the id of one of the file's {len(images)} images, got image_id "
                f"{entry['image_id']}; add the image or drop the annotation"
            )
        annotations[entry["image_id"]].append(annotation)
    if not any(annotation.is_labelled for people in annotations.values() for annotation in people):
        raise ValueError(
            f"{path}: expected annotated people, got {len(entries)} annotations of its keypoint category and "
            "no labelled keypoint; check that this is a keypoint file"
        )
    found = tuple(CocoImage(entry, tuple(annotations[image_id])) for image_id, entry in images.items())
    return CocoFile(found, {**category, "keypoints": list(skeleton.keypoints)}, skeleton)


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
    coco_json.require_keys(candidates[0], ("id",), f"{path}: category")
    return dict(candidates[0])


def _checked_skeleton(path: Path, category: Mapping[str, Any], skeleton: Skeleton | None) -> Skeleton:
    if skeleton is None:
        return Skeleton.from_category(category, source=str(path))
    if (names := tuple(category.get("keypoints") or ())) and names != skeleton.keypoints:
        raise ValueError(
            f"{path}: expected the keypoints of skeleton '{skeleton.name}', {list(skeleton.keypoints)}, got "
            f"{list(names)}: wrong skeleton for the data; give the one that fits, or none"
        )
    return skeleton


def _images_by_id(path: Path, entries: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    for entry in entries:
        where = f"{path}: image {entry.get('id')!r}"
        coco_json.require_keys(entry, _IMAGE_KEYS, where)
        coco_json.require_integers(entry, ("id", "height", "width"), where)
    _check_distinct(path, "image", entries)
    return {entry["id"]: entry for entry in entries}


def _check_distinct(path: Path, kind: str, entries: Sequence[Mapping[str, Any]]) -> None:
    counts = Counter(entry.get("id") for entry in entries)
    if repeated := [entry_id for entry_id, count in counts.items() if count > 1]:
        raise ValueError(f"{path}: expected every {kind} id once, but {repeated[:5]} are repeated; renumber")


def _annotation(entry: Mapping[str, Any], where: str, skeleton: Skeleton) -> CocoAnnotation:
    coco_json.require_keys(entry, _ANNOTATION_KEYS, where)
    coco_json.require_integers(entry, ("id", "image_id"), where)
    values = coco_json.finite_numbers(entry["keypoints"], f"{where}: 'keypoints'")
    coco_json.require_triples(values, skeleton, where)
    keypoints = values.reshape(-1, 3)
    if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
        visibility = keypoints[:, 2].tolist()
        raise ValueError(f"{where}: expected visibilities 0, 1 or 2, got {visibility}; correct them")
    dropped = ("keypoints", "segmentation", "area")
    remaining = {key: value for key, value in entry.items() if key not in dropped}
    annotation = CocoAnnotation(remaining, keypoints, _area(entry, where), entry.get("segmentation"))
    # Segmentations are most of a file's size, and those of labelled people are not used.
    return replace(annotation, segmentation=None) if annotation.is_labelled else annotation


def _area(entry: Mapping[str, Any], where: str) -> float:
    box = coco_json.finite_numbers(entry["bbox"], f"{where}: 'bbox'")
    if len(box) != 4:
        raise ValueError(f"{where}: expected 'bbox' [x, y, width, height], got {entry['bbox']}; correct it")
    if entry.get("area") is None:
        return float(coco_json.AREA_OF_BOX * box[2] * box[3])
    return float(coco_json.finite_numbers([entry["area"]], f"{where}: 'area'")[0])
