"""Predicted poses in COCO's format: as results for evaluation, and as data sets."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swahr import coco_json
from swahr.files import integer, read_json, write_json
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, OCCLUDED, VISIBLE, Poses

_KEYS = ("image_id", "category_id", "keypoints", "score")


def results_from_poses(
    poses: Mapping[int, Poses], *, category_id: int | str = coco_json.PERSON
) -> list[dict[str, Any]]:
    """COCO results, one per person, from poses by image id; missing keypoints are three zeros.

    ``category_id`` is that of people in the ground truth, without which the official tools ignore results.
    """
    return [
        coco_json.result_entry(
            int(image_id), coco_json.flat_keypoints(*person), float(score), category_id=category_id
        )
        for image_id, found in poses.items()
        for score, *person in zip(found.score, found.keypoints, found.scores, found.present, strict=True)
    ]


def poses_as_dataset(
    images: Sequence[tuple[str, tuple[int, int], Poses]], skeleton: Skeleton
) -> dict[str, Any]:
    """A COCO-format data set, e.g. of pseudo-labels, with ``score`` and ``keypoint_scores`` per annotation.

    Coordinates are rounded to two decimals. ``images`` has each image's file name, size (h, w) and poses.
    """
    entries = [coco_json.image_entry(i, name, size) for i, (name, size, _) in enumerate(images, start=1)]
    people = [
        _scored_person(poses, index, image_id)
        for image_id, (_, _, poses) in enumerate(images, start=1)
        for index in range(len(poses))
    ]
    return coco_json.dataset(entries, people, skeleton.to_category())


def _scored_person(poses: Poses, index: int, image_id: int) -> dict[str, Any]:
    present = poses.present[index]
    points = poses.keypoints[index]
    visibility = np.select([~present, poses.hidden[index]], [ABSENT, OCCLUDED], VISIBLE)
    box = coco_json.bounding_box(points[present])
    entry = coco_json.person_entry(image_id, points, visibility, box=box, area=box[2] * box[3])
    occluded = {} if poses.occluded is None else {"keypoint_occlusion": _rounded(poses.occluded[index], 4)}
    return entry | {
        "keypoints": _rounded(entry["keypoints"], 2),
        "bbox": _rounded(box, 2),
        "area": round(entry["area"], 2),
        "keypoint_scores": _rounded(poses.scores[index].tolist(), 4),
        "score": round(float(poses.score[index]), 4),
        **occluded,
    }


def _rounded(values: Iterable[float], digits: int) -> list[float]:
    return [round(value, digits) for value in values]


def write_results(path: str | Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write a results file; raises the errors of `swahr.files.write_json`."""
    write_json(path, [dict(result) for result in results], indent=None)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a COCO-format results file (see `read_json`), with integer ids.

    Raises:
        FileNotFoundError: the file does not exist.
        TypeError: the file does not contain a list of objects.
        ValueError: it is not JSON, or an entry lacks a key or has malformed values.
    """
    results = read_json(path)
    if not isinstance(results, list):
        raise TypeError(
            f"{path}: expected a JSON list of results, got {type(results).__name__}; use a file of "
            "predictions, not of annotations"
        )
    return [_checked(result, f"{path}: result {position}") for position, result in enumerate(results)]


def _checked(result: object, where: str) -> dict[str, Any]:
    """A result with integer ids."""
    if not isinstance(result, dict):
        raise TypeError(f"{where}: expected an object with {', '.join(_KEYS)}, got {type(result).__name__}")
    coco_json.require_keys(result, _KEYS, where)
    keypoints = coco_json.finite_numbers(result["keypoints"], f"{where}: 'keypoints'")
    if len(keypoints) % 3:
        raise ValueError(f"{where}: 'keypoints': expected x, y, score triples, got {len(keypoints)} numbers")
    coco_json.finite_numbers([result["score"]], f"{where}: 'score'")
    return {**result, **{key: integer(result[key], f"{where}: '{key}'") for key in _KEYS[:2]}}
