"""COCO's keypoint format (https://cocodataset.org/#format-data): reading, checks and new entries.

Keypoints are flat lists of (x, y, v) triples. x and y are pixel *indices*, i.e. continuous coordinates minus
0.5. v is a visibility in annotations and a score in results. Boxes are (x, y, width, height).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Num

from swahr.files import read_json
from swahr.geometry import INDEX_FROM_POINT
from swahr.skeleton import Skeleton

AREA_OF_BOX = 0.53
"""Ratio of a person's area to the box, used by CrowdPose's protocol because its files have no areas."""

_SECTIONS = ("images", "annotations", "categories")
_LARGEST = 1e15  # the square of a larger number does not fit into the float32 of maps

PERSON = 1
"""The id of the category ``person`` in COCO, in CrowdPose and in files that we write."""


def read_dataset(path: str | Path) -> dict[str, Any]:
    """The content of an annotation file (see `read_json`); what its entries hold is not checked.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not JSON, not a mapping, or ``images``, ``annotations`` or ``categories`` is not a
            list of objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a COCO-format annotation file (.json or .json.gz), but it does not exist; "
            "check the data root, or download the file"
        )
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
            f"{path}: expected a COCO-format mapping, got a {type(content).__name__} (a results file?); use "
            "the annotation file"
        )
    require_keys(content, _SECTIONS, str(path))
    for name in _SECTIONS:
        entries = content[name]
        if not isinstance(entries, list):
            raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
                f"{path}: expected a list of objects as '{name}', got {shown(entries)}"
            )
        if bad := [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]:
            got = shown(entries[bad[0]])
            raise ValueError(
                f"{path}: expected an object as {name}[{bad[0]}], got {got}; correct or remove it"
            )
    return content


def require_keys(entry: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise ValueError, starting with ``where``, if an entry lacks one of ``keys``."""
    if missing := [key for key in keys if key not in entry]:
        raise ValueError(f"{where}: expected the keys {list(keys)}, but {missing} are missing; add them")


def finite_numbers(values: Any, where: str) -> Float64[np.ndarray, " n"]:
    """A flat JSON list of numbers up to 1e15 as an array; else raises ValueError, starting with ``where``."""
    try:
        numbers = np.array(values)
    except (ValueError, OverflowError):  # lists of different lengths
        numbers = np.array(None)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or not (np.abs(numbers) <= _LARGEST).all():
        raise ValueError(f"{where}: expected a list of finite numbers, got {shown(values)}; correct it")
    return numbers.astype(np.float64)


def require_triples(keypoints: Sequence[Any] | np.ndarray, skeleton: Skeleton, where: str) -> None:
    """Raise ValueError, starting with ``where``, unless there are three numbers per keypoint."""
    expected = 3 * skeleton.num_keypoints
    if len(keypoints) != expected:
        raise ValueError(
            f"{where}: expected {expected} numbers in 'keypoints' (x, y and visibility or score of the "
            f"{skeleton.num_keypoints} keypoints of skeleton '{skeleton.name}'), got {len(keypoints)}; "
            "correct the file, or choose the skeleton it was made for"
        )


def present_keypoints(results: Float64[np.ndarray, "*n k 3"]) -> Bool[np.ndarray, "*n k"]:
    """Which keypoints of results are not missing: those with a score other than 0.

    In a pose without any score, they are those other than three zeros.
    """
    scored = results[..., 2] != 0
    return np.where(scored.any(axis=-1, keepdims=True), scored, results.any(axis=-1))


def bounding_box(points: Num[np.ndarray, "n 2"]) -> list[float]:
    """The bounding box (x, y, width, height) of points; zeros if there are none."""
    if not len(points):
        return [0.0] * 4
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def flat_keypoints(
    points: Float[np.ndarray, "k 2"], values: Num[np.ndarray, " k"], present: Bool[np.ndarray, " k"]
) -> list[float]:
    """The (x, y, v) triples of one person's ``points`` (frame: image); zeros where ``present`` is False.

    ``values`` are visibilities or scores.
    """
    indices = np.where(present[:, None], INDEX_FROM_POINT.apply(points), 0.0).tolist()
    pairs = zip(indices, np.where(present, values, 0).tolist(), strict=True)
    return [number for (x, y), value in pairs for number in (x, y, value)]


def image_entry(image_id: int, file_name: str, size: tuple[int, int]) -> dict[str, Any]:
    """An entry of ``images``; ``size`` is (h, w)."""
    return {"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]}


def person_entry(
    image_id: int,
    points: Float[np.ndarray, "k 2"],
    visibility: Int[np.ndarray, " k"],
    *,
    box: Sequence[float],
    area: float,
) -> dict[str, Any]:
    """An entry of ``annotations`` without its id, which `dataset` assigns.

    ``points`` (frame: image) are ignored where ``visibility`` is 0. ``box`` is (x, y, width, height) in
    pixels, and ``area``, to which OKS is relative, is in square pixels.
    """
    return {
        "image_id": image_id,
        "category_id": PERSON,
        "iscrowd": 0,
        "keypoints": flat_keypoints(points, visibility, visibility > 0),
        "num_keypoints": int(np.count_nonzero(visibility)),
        "bbox": list(box),
        "area": area,
    }


def result_entry(
    image_id: int, keypoints: Sequence[float], score: float, *, category_id: int | str = PERSON
) -> dict[str, Any]:
    """An entry of a results file; ``keypoints`` is from `flat_keypoints`."""
    return {"image_id": image_id, "category_id": category_id, "keypoints": keypoints, "score": score}


def dataset(
    images: Iterable[Mapping[str, Any]], people: Iterable[Mapping[str, Any]], category: Mapping[str, Any]
) -> dict[str, Any]:
    """A COCO-format mapping. Annotation ids start at 1, because COCO's tools read 0 as "not matched"."""
    return {
        "images": [dict(image) for image in images],
        "annotations": [{**person, "id": i} for i, person in enumerate(people, start=1)],
        "categories": [dict(category)],
    }
