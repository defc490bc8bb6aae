"""COCO- and CrowdPose-format records of rendered scenes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from swahr.data.synthetic.scene import Scene
from swahr.geometry import INDEX_FROM_POINT
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT

Style = Literal["coco", "crowdpose"]


def crowd_index(scene: Scene) -> float:
    """How entangled people are: 0 for people apart, above 0.8 CrowdPose calls a crowd hard.

    CrowdPose (Li et al., CVPR 2019): the mean over people of the number of *other* people's keypoints
    inside a person's box, divided by the number of the person's own labelled keypoints. Like the indices in
    CrowdPose's files, it may exceed 1.
    """
    count = len(scene.keypoints)
    if count == 0:
        return 0.0
    labelled = scene.visibility != ABSENT
    corner, size = scene.boxes[:count, None, None, :2], scene.boxes[:count, None, None, 2:]
    inside = ((scene.keypoints >= corner) & (scene.keypoints <= corner + size)).all(axis=-1) & labelled
    own = labelled.sum(axis=1)
    held = inside.sum(axis=-1)
    others = held.sum(axis=1) - held.diagonal()
    return float((others / own).mean())


def dataset_records(
    scenes: Iterable[tuple[str, Scene]], skeleton: Skeleton, style: Style = "coco"
) -> dict[str, Any]:
    """A COCO-format dataset of scenes with their file names; image ids count from 1.

    Keypoints are in COCO's pixel indices, (0, 0, 0) where absent. People without labelled keypoints come with
    ``num_keypoints`` 0, as in COCO. ``crowdpose`` leaves ``area`` out, as CrowdPose does.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (file_name, scene) in enumerate(scenes, start=1):
        height, width = scene.image.shape[:2]
        images.append(
            {
                "id": image_id,
                "width": width,
                "height": height,
                "file_name": file_name,
                "crowdIndex": crowd_index(scene),
            }
        )
        for person in range(len(scene.area)):
            annotation = _annotation(scene, person, skeleton.num_keypoints)
            if style == "crowdpose":
                del annotation["area"]
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return {
        "info": {"description": f"rendered crowds, {skeleton.name} keypoints"},
        "images": images,
        "annotations": annotations,
        "categories": [skeleton.to_category()],
    }


def _annotation(scene: Scene, person: int, num_keypoints: int) -> dict[str, Any]:
    flat = np.zeros((num_keypoints, 3))
    if person < len(scene.keypoints):
        flat[:, :2] = INDEX_FROM_POINT.apply(scene.keypoints[person])
        flat[:, 2] = scene.visibility[person]
        flat[scene.visibility[person] == ABSENT] = 0.0
    triples = [[x, y, int(v)] for x, y, v in flat.tolist()]
    return {
        "category_id": 1,
        "keypoints": [value for triple in triples for value in triple],
        "num_keypoints": int(np.count_nonzero(flat[:, 2])),
        "area": float(scene.area[person]),
        "bbox": scene.boxes[person].tolist(),
        "iscrowd": 0,
    }
