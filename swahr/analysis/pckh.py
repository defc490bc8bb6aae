"""Keypoints found within half a head's size, as a share of those annotated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from swahr.analysis.diagnosis import diagnose
from swahr.coco_json import present_keypoints
from swahr.evaluation.evaluator import ProtocolName
from swahr.keypoint_names import words_of
from swahr.skeleton import Skeleton

HEAD_OF_FACE, HEAD_OF_PERSON = 1.5, 0.35
"""Head to neck, relative to the longest distance from an ear, and to the square root of a person's area.

Relative to the square root of the area, 0.53 times the box, the median from head to neck is 0.354 in
CrowdPose's validation set, and the median from an ear is 0.231 in 10,000 training images of COCO.
"""


@dataclass(frozen=True)
class PCKh:
    """Shares of labelled keypoints found; None where nothing is labelled.

    Attributes:
        overall: of all keypoints.
        by_keypoint: by the keypoint's name.
        people: the number of annotated people.
        without_head: how many of them have a head's size by their area only.
    """

    overall: float | None
    by_keypoint: dict[str, float | None]
    people: int
    without_head: int


def pckh(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    protocol: ProtocolName = "coco",
    fraction: float = 0.5,
) -> PCKh:
    """The share of labelled keypoints found within ``fraction`` of the head's size.

    The keypoints of a person are compared with those of the detection that `diagnose` matches; nothing of a
    missed person is found. Detections that match nobody do not count. The head's size is the first of these
    that a person's labels give:

    1. the longest distance between keypoints with ``head`` or ``neck`` in their names: CrowdPose's head and
       neck, MPII's and PoseTrack's top and bottom of the head;
    2. 1.5 times the longest distance between an ear and another ear, an eye or the nose, as in COCO;
    3. 0.35 times the square root of the person's area, which is too short for somebody seen in part.

    MPII's benchmark uses 0.6 times the diagonal of an annotated box of the head, and gives people's positions
    to the method. Its values cannot be compared with these.

    Args:
        truth: COCO format.
        results: COCO results on its images; a keypoint whose score is 0 is missing.
        skeleton: the keypoints.
        protocol: which people count, and which area they have; see `Evaluator`.
        fraction: of the head's size.

    Raises:
        ValueError: ``fraction`` is not positive, or ground truth and results do not match each other, the
            skeleton or the protocol.
    """
    if not fraction > 0:
        raise ValueError(f"expected a positive fraction of the head's size, got {fraction}; 0.5 is usual")
    diagnosis = diagnose(truth, results, skeleton, protocol=protocol)
    detections = {person: diagnosis.matching.detections[one] for one, person in diagnosis.owners.items()}
    rows, without_head = [], 0
    for person in (*detections, *diagnosis.missed_people):
        annotated = diagnosis.matching.people[person]
        true = _triples(annotated)
        found = _triples(detections[person]) if person in detections else np.zeros_like(true)
        size = _head_size(true, skeleton)
        without_head += size == 0
        size = size or HEAD_OF_PERSON * annotated["area"] ** 0.5
        near = np.linalg.norm(found[:, :2] - true[:, :2], axis=1) <= fraction * size
        labelled = true[:, 2] > 0
        rows.append((labelled, labelled & near & present_keypoints(found)))
    counts = np.array(rows, dtype=np.int64).reshape(-1, 2, skeleton.num_keypoints).sum(axis=0)
    labels, hits = counts.tolist()
    shares = [hit / label if label else None for label, hit in zip(labels, hits, strict=True)]
    return PCKh(
        overall=sum(hits) / sum(labels) if sum(labels) else None,
        by_keypoint=dict(zip(skeleton.keypoints, shares, strict=True)),
        people=len(rows),
        without_head=int(without_head),
    )


def _head_size(true: Float64[np.ndarray, "k 3"], skeleton: Skeleton) -> float:
    """By the labelled keypoints of the head; 0 where too few are labelled."""
    words = [set(words_of(name)) for name in skeleton.keypoints]

    def labelled(*parts: str) -> Float64[np.ndarray, "n 2"]:
        named: Bool[np.ndarray, " k"] = np.array([bool(own & set(parts)) for own in words])
        return true[named & (true[:, 2] > 0), :2]

    limb = _longest(labelled("head", "neck"), labelled("head", "neck"))
    return limb or HEAD_OF_FACE * _longest(labelled("ear"), labelled("ear", "eye", "nose"))


def _longest(starts: Float64[np.ndarray, "n 2"], ends: Float64[np.ndarray, "m 2"]) -> float:
    return float(np.linalg.norm(starts[:, None] - ends, axis=-1).max(initial=0.0))


def _triples(entry: Mapping[str, Any]) -> Float64[np.ndarray, "k 3"]:
    return np.asarray(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
