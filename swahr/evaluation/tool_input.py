"""Checked ground truth and results, in the format that COCO tools read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swahr import coco_json
from swahr.skeleton import Skeleton

_CATEGORY = {"id": coco_json.PERSON, "name": "person"}


def tool_datasets(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton, *, needed: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """COCO-format data sets of the annotated and of the predicted people, with one category and new ids.

    Annotations of categories with another number of keypoints are left out. COCO's tools ignore people whose
    ``num_keypoints`` is 0. CrowdPose's files have 0 for many people with keypoints, and all published metrics
    were computed with these counts, so keypoints are counted only where the file has no count.

    Args:
        ground_truth: COCO format.
        results: COCO results.
        skeleton: the skeleton of both.
        needed: the field of annotations (``area``) or images (``crowdIndex``) that the protocol uses.

    Raises:
        ValueError: a result belongs to no image, keypoints are not k triples, or a needed field is missing.
    """
    images = list(ground_truth["images"])
    annotations = _pose_annotations(ground_truth, skeleton)
    _check_fields(images, annotations, needed)
    _check_image_ids(images, results)
    for kind, people in (("annotation", annotations), ("result", results)):
        for person in people:
            coco_json.require_triples(person["keypoints"], skeleton, f"{kind} of image {person['image_id']}")
    return (
        coco_json.dataset(images, map(_annotated, annotations), _CATEGORY),
        coco_json.dataset(images, map(_predicted, results), _CATEGORY),
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
            f"'{skeleton.name}'; use the annotations of the images that were evaluated"
        )
    return [person for person in ground_truth["annotations"] if person["category_id"] in categories]


def _check_fields(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], needed: str
) -> None:
    if needed == "crowdIndex" and (lacking := [image["id"] for image in images if needed not in image]):
        raise ValueError(
            f"protocol 'crowdpose' needs the crowdIndex of every image, but {len(lacking)} images have none "
            f"(the first: {lacking[0]}); use CrowdPose's annotation file, or protocol 'coco'"
        )
    for field in ("bbox", "area") if needed == "area" else ("bbox",):
        if lacking := [person for person in annotations if field not in person]:
            raise ValueError(
                f"expected '{field}' in every annotation, but {len(lacking)} have none (the first: id "
                f"{lacking[0].get('id')} of image {lacking[0]['image_id']}); add it"
                + (", or use protocol 'crowdpose', which uses the box" if field == "area" else "")
            )


def _check_image_ids(images: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> None:
    known = {image["id"] for image in images}
    if unknown := sorted({result["image_id"] for result in results} - known):
        raise ValueError(
            f"the results contain {len(unknown)} images that are not in the ground truth (image_id "
            f"{', '.join(map(str, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}); use the annotations "
            "of these images, or remove the results"
        )


def _annotated(person: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image_id": person["image_id"],
        "category_id": coco_json.PERSON,
        "iscrowd": person.get("iscrowd", 0),
        "bbox": person["bbox"],
        "area": person.get("area", 0),
        "keypoints": person["keypoints"],
        "num_keypoints": person.get("num_keypoints", sum(v > 0 for v in person["keypoints"][2::3])),
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
