"""Results in COCO's keypoint format: a JSON list with one entry per person found."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swahr.geometry import INDEX_FROM_POINT
from swahr.structures import Poses

_KEYS = ("image_id", "category_id", "keypoints", "score")
_PERSON_CATEGORY = 1  # COCO's and CrowdPose's


def results_from_poses(poses: Mapping[int, Poses]) -> list[dict[str, Any]]:
    """COCO results of poses by image id.

    Keypoints become ``x, y, score`` triples in pixel indices (half a pixel less than the image frame's
    continuous coordinates); missing ones become three zeros.
    """
    return [
        {
            "image_id": int(image_id),
            "category_id": _PERSON_CATEGORY,
            "keypoints": keypoints,
            "score": score,
        }
        for image_id, found in poses.items()
        for keypoints, score in zip(_flat_keypoints(found), found.score.tolist(), strict=True)
    ]


def _flat_keypoints(poses: Poses) -> list[list[float]]:
    triples = np.concatenate([INDEX_FROM_POINT.apply(poses.keypoints), poses.scores[..., None]], axis=-1)
    flat: list[list[float]] = (
        np.where(poses.present[..., None], triples, 0.0)
        .reshape(len(poses), 3 * poses.present.shape[1])
        .tolist()
    )
    return flat


def write_results(path: str | Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write a results file; a file of that name is replaced only when the new one is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(
            json.dumps([dict(result) for result in results], allow_nan=False), encoding="utf-8"
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Read a results file of any COCO-format tool.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: the file does not hold a list of objects.
        ValueError: it is not JSON, or an entry lacks a key or has malformed keypoints or score.
    """
    path = Path(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a JSON list of results, but it is not JSON: {error}") from error
    if not isinstance(results, list):
        raise TypeError(
            f"{path}: expected a JSON list of results, got {type(results).__name__}; annotation files are "
            "not results, pass what a pose estimator wrote"
        )
    for position, result in enumerate(results):
        _check_result(result, f"{path}: result {position}")
    return results


def _check_result(result: object, where: str) -> None:
    if not isinstance(result, dict):
        raise TypeError(f"{where}: expected an object with {', '.join(_KEYS)}, got {type(result).__name__}")
    if missing := [key for key in _KEYS if key not in result]:
        raise ValueError(f"{where}: expected the keys {', '.join(_KEYS)}; {', '.join(missing)} missing")
    keypoints = result["keypoints"]
    if not isinstance(keypoints, list) or len(keypoints) % 3 or not all(map(_is_finite, keypoints)):
        raise ValueError(
            f"{where}: expected keypoints as a flat list of finite x, y, score triples, got {keypoints}"
        )
    if not _is_finite(result["score"]):
        raise ValueError(f"{where}: expected a finite number as score, got {result['score']!r}")
    if not isinstance(result["image_id"], int):
        raise ValueError(f"{where}: expected an integer image_id, got {result['image_id']!r}")  # noqa: TRY004 - a file's


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
