"""Checked ground truth and results, in the format that COCO tools read."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swahr import coco_json
from swahr.skeleton import Skeleton

_log = logging.getLogger(__name__)

_CATEGORY = {"id": coco_json.PERSON, "name": "person"}


def tool_datasets(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton, *, needed: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """COCO-format data sets of the annotated and of the predicted people, with one category and new ids.

    Annotations and results of categories with another number of keypoints are left out. COCO's tools ignore
    people whose ``num_keypoints`` is 0. CrowdPose's files have 0 for many people with keypoints, and all
    published metrics were computed with these counts, so keypoints are counted only where the file has none.

    Args:
        ground_truth: COCO format.
        results: COCO results.
        skeleton: the skeleton of both.
        needed: the field of annotations (``area``) or images (``crowdIndex``) that the protocol uses.

    Raises:
        ValueError: a result belongs to no image, all results are of other categories, keypoints are not k
            triples of finite numbers, or a needed field is missing or malformed.
    """
    images = list(ground_truth["images"])
    categories = _pose_categories(ground_truth, skeleton)
    annotations = [one for one in ground_truth["annotations"] if str(one["category_id"]) in categories]
    results = _of_categories(results, categories)
    _check_fields(images, annotations, needed)
    numbers = _consecutive_ids(images)
    _check_image_ids(numbers, annotations, results)
    _check_people("annotation", annotations, skeleton, ("bbox", "area") if needed == "area" else ("bbox",))
    _check_people("result", results, skeleton, ("score",))
    numbered = _renumbered(images, "id", numbers)
    return (
        coco_json.dataset(
            numbered, map(_annotated, _renumbered(annotations, "image_id", numbers)), _CATEGORY
        ),
        coco_json.dataset(numbered, map(_predicted, _renumbered(results, "image_id", numbers)), _CATEGORY),
    )


def person_category(ground_truth: Mapping[str, Any], skeleton: Skeleton) -> int | str:
    """The category id that results need; raises ValueError if no category has the skeleton's keypoints."""
    first: int | str = next(iter(_pose_categories(ground_truth, skeleton).values()))
    return first


def _pose_categories(ground_truth: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Any]:
    """The ids of the categories with the skeleton's number of keypoints, by their text."""
    categories = {
        str(category["id"]): category["id"]
        for category in ground_truth["categories"]
        if len(category.get("keypoints") or ()) == skeleton.num_keypoints
    }
    if not categories:
        raise ValueError(
            f"the ground truth has no category with the {skeleton.num_keypoints} keypoints of skeleton "
            f"'{skeleton.name}'; use the annotations of the images that were evaluated"
        )
    return categories


def _of_categories(
    results: Sequence[Mapping[str, Any]], categories: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """The results of the ground truth's keypoint categories; like the official tools, we ignore others."""
    kept = [result for result in results if str(result["category_id"]) in categories]
    if len(kept) < len(results):
        others = sorted({str(result["category_id"]) for result in results} - categories.keys())
        text = (
            f"{len(results) - len(kept)} of {len(results)} results have category_id {', '.join(others[:5])}, "
            f"but people have {', '.join(categories)} in the ground truth"
        )
        if not kept:
            raise ValueError(f"{text}; write the ground truth's category_id into the results")
        _log.warning("%s; they are ignored, as in the official tools", text)
    return kept


def _consecutive_ids(images: Sequence[Mapping[str, Any]]) -> dict[Any, int]:
    """New image ids, which keep the order. COCO's tools read ids as doubles, exact only up to 2**53."""
    ids = [image["id"] for image in images]
    if repeated := [image_id for image_id, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"the ground truth repeats the images {repeated[:5]}; list every image once")
    return {image_id: i for i, image_id in enumerate(sorted(ids, key=lambda one: (str(type(one)), one)), 1)}


def _renumbered(
    entries: Sequence[Mapping[str, Any]], key: str, numbers: Mapping[Any, int]
) -> list[dict[str, Any]]:
    return [{**entry, key: numbers[entry[key]]} for entry in entries]


def _check_fields(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], needed: str
) -> None:
    if needed == "crowdIndex":
        _check_crowding(images)
    for field in ("keypoints", "bbox", "area") if needed == "area" else ("keypoints", "bbox"):
        if lacking := [person for person in annotations if field not in person]:
            raise ValueError(
                f"expected '{field}' in every annotation, but {len(lacking)} have none (the first: id "
                f"{lacking[0].get('id')} of image {lacking[0]['image_id']}); add it"
                + (", or use protocol 'crowdpose', which uses the box" if field == "area" else "")
            )


def is_crowd_index(value: object) -> bool:
    """Whether a value can be CrowdPose's ``crowdIndex``: 0 where nobody is crowded; some are above 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _check_crowding(images: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError unless every image has a ``crowdIndex``, and they are no percentages."""
    if lacking := [image for image in images if not is_crowd_index(image.get("crowdIndex"))]:
        raise ValueError(
            f"protocol 'crowdpose' needs the crowdIndex of every image, a number from 0, but {len(lacking)} "
            f"images have none (the first: {lacking[0]['id']} has {lacking[0].get('crowdIndex')!r}); use "
            "CrowdPose's annotation file, or protocol 'coco'"
        )
    if len(above := [image["id"] for image in images if image["crowdIndex"] > 1]) > len(images) / 2:
        raise ValueError(
            f"{len(above)} of {len(images)} images have a crowdIndex above 1, which looks like percentages; "
            "write fractions, as CrowdPose does"
        )


def _check_image_ids(
    known: Mapping[Any, int], annotations: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]
) -> None:
    for kind, people in (("annotations", annotations), ("results", results)):
        if unknown := sorted({person["image_id"] for person in people} - known.keys(), key=str):
            raise ValueError(
                f"the {kind} contain {len(unknown)} images that are not in the ground truth (image_id "
                f"{', '.join(map(str, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}); use the "
                f"annotations of these images, or remove the {kind}"
            )


def _check_people(
    kind: str, people: Sequence[Mapping[str, Any]], skeleton: Skeleton, fields: Sequence[str]
) -> None:
    """Check numbers: those of all people together, and one by one only if something is wrong."""
    for field in ("keypoints", *fields):
        length = {"keypoints": 3 * skeleton.num_keypoints, "bbox": 4}.get(field, 1)
        if not _are_finite([person[field] for person in people], length):
            for person in people:
                where, value = _name(kind, person), person[field] if length > 1 else [person[field]]
                numbers = coco_json.finite_numbers(value, f"{where}: '{field}'")
                if field == "keypoints":
                    coco_json.require_triples(numbers, skeleton, where)
                elif len(numbers) != length:
                    raise ValueError(
                        f"{where}: '{field}': expected {length} numbers, got {value}; correct it"
                    )
    for person in people if kind == "annotation" else ():
        count, crowd = person.get("num_keypoints"), person.get("iscrowd", 0)
        if not isinstance(count, int | None) or crowd not in (0, 1):
            raise ValueError(
                f"{_name(kind, person)}: expected an integer num_keypoints and iscrowd 0 or 1, got {count!r} "
                f"and {crowd!r}; correct them"
            )


def _name(kind: str, person: Mapping[str, Any]) -> str:
    number = f" {person['id']!r}" if "id" in person else ""
    return f"{kind}{number} of image {person['image_id']}"


def _are_finite(values: list[Any], length: int) -> bool:
    """Whether each of ``values`` is ``length`` finite numbers."""
    try:
        numbers = np.array(values)
    except ValueError:  # lists of different lengths
        return False
    return not values or (
        numbers.dtype.kind in "iuf"
        and numbers.size == length * len(values)
        and bool(np.isfinite(numbers).all())
    )


def _annotated(person: Mapping[str, Any]) -> dict[str, Any]:
    count = person.get("num_keypoints")
    return {
        "image_id": person["image_id"],
        "category_id": coco_json.PERSON,
        "iscrowd": int(person.get("iscrowd", 0)),
        "bbox": person["bbox"],
        "area": person.get("area", 0),
        "keypoints": person["keypoints"],
        "num_keypoints": sum(v > 0 for v in person["keypoints"][2::3]) if count is None else count,
    }


def _predicted(person: Mapping[str, Any]) -> dict[str, Any]:
    box = coco_json.bounding_box(np.reshape(person["keypoints"], (-1, 3))[:, :2])
    return {
        "image_id": person["image_id"],
        "category_id": coco_json.PERSON,
        "bbox": box,
        "area": box[2] * box[3],  # COCO's tools use it if the prediction matches no annotation
        "keypoints": list(person["keypoints"]),
        "score": person["score"],
    }
