"""Annotated people without their images, to be encoded and decoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from swahr.aggregate import Aggregator
from swahr.aggregate.inputs import input_frame
from swahr.geometry import POINT_FROM_INDEX, Affine
from swahr.skeleton import Skeleton
from swahr.structures import Annotations


@dataclass(frozen=True, eq=False)
class Crowd:
    """The labelled people of one image of size (h, w). Frame: image."""

    image_id: int
    size: tuple[int, int]
    people: Annotations


def annotated_crowds(ground_truth: Mapping[str, Any], skeleton: Skeleton) -> list[Crowd]:
    """The people of every image who have labelled keypoints; crowd regions are left out."""
    entries: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for person in ground_truth["annotations"]:
        if not person["iscrowd"] and any(person["keypoints"][2::3]):
            entries[person["image_id"]].append(person)
    return [
        Crowd(image["id"], (image["height"], image["width"]), _annotations(entries[image["id"]], skeleton))
        for image in ground_truth["images"]
    ]


def _annotations(people: list[Mapping[str, Any]], skeleton: Skeleton) -> Annotations:
    raw = np.array([person["keypoints"] for person in people], dtype=np.float64)
    raw = raw.reshape(len(people), skeleton.num_keypoints, 3)
    return Annotations(
        keypoints=POINT_FROM_INDEX.apply(raw[..., :2]),
        visibility=raw[..., 2].astype(np.int64),
        area=np.array([person["area"] for person in people], dtype=np.float64),
    )


def input_from_image(size: tuple[int, int], aggregate: Aggregator) -> Affine:
    """The transform of an image of ``size`` (h, w) into the input at test scale 1, as in aggregation."""
    return input_frame(size, aggregate.input_sizes(size)[1.0], aggregate.alignment)
