"""Ground truth and results, checked and in the form that COCO tools want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swahr.skeleton import Skeleton

_CATEGORY = {"id": 1, "name": "person"}


def coco_records(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    needed: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """COCO data sets of what is there and of what was found, with one category and fresh ids.

    Annotations of categories without these keypoints are left out. People whose ``num_keypoints`` is 0 are
    ignored by the tools. CrowdPose's files say 0 of many who do have keypoints, but every published figure
    goes by it, so keypoints are counted only where the ground truth does not say. Ids start at 1, because the
    tools take 0 for "not matched".

    Args:
        ground_truth: COCO format.
        results: COCO results.
        skeleton: what keypoints are expected.
        needed: the field of annotations (``area``) or images (``crowdIndex``) that the protocol goes by.

    Raises:
        ValueError: a result belongs to no image, keypoints are not K triples, or a needed field is missing.
    """
    images = list(ground_truth["images"])
    annotations = _pose_annotations(ground_truth, skeleton)
    _check_fields(images, annotations, needed)
    _check_image_ids(images, results)
    _check_keypoints(annotations, skeleton, "annotation")
    _check_keypoints(results, skeleton, "result")
    shared = {"images": images, "categories": [_CATEGORY]}
    return (
        shared | {"annotations": [_truth(person, i) for i, person in enumerate(annotations, start=1)]},
        shared | {"annotations": [_found(person, i) for i, person in enumerate(results, start=1)]},
    )


def _pose_annotations(ground_truth: Mapping[str, Any], skeleton: Skeleton) -> list[Mapping[str, Any]]:
    categories = {
        category["id"]
        for category in ground_truth["categories"]
        if len(category.get("keypoints") or ()) == skeleton.num_keypoints
    }
    if not categories:
        raise ValueError(
            f"the ground truth has no category with the {skeleton.num_keypoints} keypoints of skeleton "
            f"'{skeleton.name}'; pass the annotations the results were made for"
        )
    return [person for person in ground_truth["annotations"] if person["category_id"] in categories]


def _check_fields(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], needed: str
) -> None:
    if needed == "crowdIndex" and (lacking := [image["id"] for image in images if needed not in image]):
        raise ValueError(
            f"protocol 'crowdpose' goes by the crowdIndex of every image, which {len(lacking)} images lack "
            f"(the first: {lacking[0]}); use CrowdPose's annotation file, or protocol 'coco'"
        )
    fields = ("bbox", "area") if needed == "area" else ("bbox",)
    for field in fields:
        if lacking := [person for person in annotations if field not in person]:
            raise ValueError(
                f"expected '{field}' in every annotation, {len(lacking)} lack it (the first: id "
                f"{lacking[0].get('id')} of image {lacking[0]['image_id']}); add it"
                + (", or use protocol 'crowdpose', which goes by the box" if field == "area" else "")
            )


def _check_image_ids(images: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> None:
    known = {image["id"] for image in images}
    if unknown := sorted({result["image_id"] for result in results} - known):
        raise ValueError(
            f"the results speak of {len(unknown)} images that are not in the ground truth (image_id "
            f"{', '.join(map(str, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}); score them against "
            "the annotation file they were made for, or leave those results out"
        )


def _check_keypoints(people: Sequence[Mapping[str, Any]], skeleton: Skeleton, kind: str) -> None:
    expected = 3 * skeleton.num_keypoints
    for person in people:
        if len(person["keypoints"]) != expected:
            raise ValueError(
                f"expected {expected} numbers (x, y and visibility or score of the {skeleton.num_keypoints} "
                f"keypoints of skeleton '{skeleton.name}') in every {kind}, got {len(person['keypoints'])} "
                f"in one of image {person['image_id']}; use annotations and results of the same skeleton"
            )


def _truth(person: Mapping[str, Any], identity: int) -> dict[str, Any]:
    return {
        "id": identity,
        "image_id": person["image_id"],
        "category_id": _CATEGORY["id"],
        "iscrowd": person.get("iscrowd", 0),
        "bbox": person["bbox"],
        "area": person.get("area", 0),
        "keypoints": person["keypoints"],
        "num_keypoints": person.get("num_keypoints", sum(v > 0 for v in person["keypoints"][2::3])),
    }


def _found(person: Mapping[str, Any], identity: int) -> dict[str, Any]:
    xs, ys = person["keypoints"][0::3], person["keypoints"][1::3]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return {
        "id": identity,
        "image_id": person["image_id"],
        "category_id": _CATEGORY["id"],
        "bbox": [min(xs), min(ys), width, height],
        "area": width * height,  # the tools take this for the size of unmatched detections
        "keypoints": list(person["keypoints"]),
        "score": person["score"],
    }
