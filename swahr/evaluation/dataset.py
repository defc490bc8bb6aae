"""Poses of images that nobody annotated, as a COCO-format data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from swahr.geometry import INDEX_FROM_POINT
from swahr.skeleton import Skeleton
from swahr.structures import VISIBLE, Poses


def poses_as_dataset(
    images: Sequence[tuple[str, tuple[int, int], Poses]], skeleton: Skeleton
) -> dict[str, Any]:
    """A COCO-format mapping with images, categories and one annotation a person, its ``score`` beside it.

    It is both a results file for people and pseudo-labels to train on.

    Args:
        images: file name, size (h, w) and poses (frame: image) of each.
        skeleton: whose keypoints they are.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, (_, _, poses) in enumerate(images, start=1):
        annotations += [
            {"id": len(annotations) + i + 1, "image_id": image_id, **_person(poses, i)}
            for i in range(len(poses))
        ]
    entries = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]}
        for i, (name, size, _) in enumerate(images, start=1)
    ]
    return {"images": entries, "annotations": annotations, "categories": [skeleton.to_category()]}


def _person(poses: Poses, index: int) -> dict[str, Any]:
    present = poses.present[index]
    points = np.where(present[:, None], INDEX_FROM_POINT.apply(poses.keypoints[index]), 0.0)
    flat = np.concatenate([points, np.where(present, float(VISIBLE), 0.0)[:, None]], axis=1)
    found = poses.keypoints[index][present]
    low, high = (found.min(axis=0), found.max(axis=0)) if len(found) else (np.zeros(2), np.zeros(2))
    width, height = (high - low).tolist()
    return {
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [round(value, 2) for value in flat.ravel().tolist()],
        "keypoint_scores": [round(value, 4) for value in poses.scores[index].tolist()],
        "num_keypoints": int(present.sum()),
        "bbox": [round(value, 2) for value in (*low.tolist(), width, height)],
        "area": round(width * height, 2),
        "score": round(float(poses.score[index]), 4),
    }
