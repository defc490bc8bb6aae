"""The errors of a result, by the taxonomy of Ronchi and Perona.

"Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from pycocotools.mask import iou

from swahr.analysis.matching import Matching, match
from swahr.evaluation.evaluator import CROWDING, ProtocolName
from swahr.evaluation.tool_input import is_crowd_index
from swahr.skeleton import Skeleton

MATCHED = 0.1
"""The OKS from which a detection belongs to a person, however bad it is: the value of the authors' tool."""
NEAR, EXACT = 0.5, 0.85
"""Keypoint similarities of section 3.1: near a position, and within the error of human annotators."""
GOOD, JITTER, INVERSION, SWAP, MISS = KINDS = ("good", "jitter", "inversion", "swap", "miss")

_IGNORED = 0.5  # the lowest OKS of AP, from which COCO's evaluator ignores detections on crowd regions
_OVERLAP = 0.1  # of the boxes of neighbours, as IoU
# What a group's area, or number of neighbours, is below; in ascending order.
_SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": np.inf}
_NEIGHBOURS = {"no neighbour": 1.0, "1-2 neighbours": 3.0, "3+ neighbours": np.inf}
_UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What each detection is, and each labelled keypoint of those that belong to a person.

    Attributes:
        skeleton: the keypoints.
        matching: people, detections and images, by the ids used here.
        owners: the person of each detection that belongs to one.
        kinds: per detection with an owner, the index in `KINDS` of each keypoint; -1 where it has no label.
        false_people: the detections of nobody.
        missed_people: the people without a detection.
    """

    skeleton: Skeleton
    matching: Matching
    owners: dict[int, int]
    kinds: dict[int, Int64[np.ndarray, " k"]]
    false_people: tuple[int, ...]
    missed_people: tuple[int, ...]

    @property
    def evaluated(self) -> list[int]:
        """The detections that the evaluator looks at: the 20 best of each image."""
        return [one for record in self.matching.ranges[0] if record for one in record["dtIds"]]

    def by_keypoint(self) -> dict[str, dict[str, int]]:
        """How many labelled keypoints are of each kind, per keypoint."""
        stacked = np.array([*self.kinds.values()], dtype=np.int64).reshape(-1, self.skeleton.num_keypoints)
        return {name: _count(column) for name, column in zip(self.skeleton.keypoints, stacked.T, strict=True)}

    def by_group(self, groups: Mapping[int, str]) -> dict[str, dict[str, int]]:
        """The same per group of people, with the number of people and of missed people.

        Args:
            groups: the group of each person, as from `sizes` or `crowding`.
        """
        counted = [*self.owners.values(), *self.missed_people]
        rows = {}
        for group in dict.fromkeys(groups.values()):
            kinds = [self.kinds[one] for one, person in self.owners.items() if groups[person] == group]
            rows[group] = {
                "people": sum(groups[person] == group for person in counted),
                "missed people": sum(groups[person] == group for person in self.missed_people),
                **_count(np.array(kinds, dtype=np.int64)),
            }
        return {group: row for group, row in rows.items() if row["people"]}

    def sizes(self) -> dict[int, str]:
        """COCO's range of area of each person."""
        return _grouped({one: person["area"] for one, person in self.matching.people.items()}, _SIZES)

    def crowding(self) -> dict[int, str]:
        """How crowded each person stands: by the image's ``crowdIndex``, or the number of neighbours.

        Neighbours are people whose boxes overlap with an IoU above 0.1.
        """
        images, people = self.matching.images, self.matching.people
        if not all(is_crowd_index(image.get("crowdIndex")) for image in images):
            return _grouped(_neighbours(people), _NEIGHBOURS)
        limits = {name.removeprefix("AP_"): limit for name, (_, limit) in CROWDING.items()}
        values = {one: images[person["image_id"] - 1]["crowdIndex"] for one, person in people.items()}
        return _grouped(values, limits)

    def oks(self, detection: Mapping[str, Any], person: int) -> float:
        """The OKS of a detection, which may be a mended one, with a person; 1 if nothing is labelled."""
        annotated = self.matching.people[person]
        similarity = _similarity(detection, annotated, self.skeleton)[_triples(annotated)[:, 2] > 0]
        return float(similarity.mean()) if similarity.size else 1.0

    def lost(self) -> Float64[np.ndarray, " i"]:
        """Per image, the sum over people of 1 - OKS, where a missed person's OKS is 0."""
        losses = np.zeros(len(self.matching.images))
        for person in self.missed_people:
            losses[self.matching.people[person]["image_id"] - 1] += 1
        for one, person in self.owners.items():
            detection = self.matching.detections[one]
            losses[detection["image_id"] - 1] += 1 - self.oks(detection, person)
        return losses


def diagnose(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    protocol: ProtocolName = "coco",
) -> Diagnosis:
    """Tell errors apart.

    Detections are matched to people as COCO's evaluator does, from an OKS of 0.1 on. Their labelled keypoints
    are *good* or a *jitter* near the true position; an *inversion* near the mirrored keypoint; a *swap* near
    the same or the mirrored keypoint of somebody else; otherwise a *miss*. The first that applies counts.
    Detections beyond the 20 best of an image, and those on regions that COCO ignores, are none of these.

    Args:
        truth: COCO format.
        results: COCO results on its images.
        skeleton: the keypoints, with flip pairs and OKS sigmas.
        protocol: which area OKS uses; see `Evaluator`.

    Raises:
        ValueError: ground truth and results do not match each other, the skeleton or the protocol.
    """
    matching = match(truth, results, skeleton, protocol=protocol, thresholds=(MATCHED, _IGNORED))
    owners: dict[int, int] = {}
    kinds: dict[int, Int64[np.ndarray, " k"]] = {}
    false_people: list[int] = []
    missed: list[int] = []
    for record in filter(None, matching.ranges[0]):
        near = [matching.people[person] for person in record["gtIds"]]
        matches = zip(record["dtIds"], record["dtMatches"][0], record["dtIgnore"].T, strict=True)
        for one, person, (ignored, ignored_by_ap) in matches:
            if person and not ignored:
                owners[one] = int(person)
                kinds[one] = _kinds(matching.detections[one], matching.people[int(person)], near, skeleton)
            elif not ignored_by_ap:
                false_people.append(one)
        unmatched = zip(record["gtIds"], record["gtMatches"][0], record["gtIgnore"], strict=True)
        missed += [person for person, match_, ignored in unmatched if not match_ and not ignored]
    return Diagnosis(skeleton, matching, owners, kinds, tuple(false_people), tuple(missed))


def _kinds(
    detection: Mapping[str, Any],
    person: Mapping[str, Any],
    people: Iterable[Mapping[str, Any]],
    skeleton: Skeleton,
) -> Int64[np.ndarray, " k"]:
    own = _similarity(detection, person, skeleton)
    mirrored = _similarity(detection, person, skeleton, mirrored=True)
    others = [
        _similarity(detection, other, skeleton, mirrored=side)
        for other in people
        if other is not person
        for side in (False, True)
    ]
    of_others = np.max([np.zeros_like(own), *others], axis=0)
    tests = [own >= EXACT, own >= NEAR, mirrored >= NEAR, of_others >= NEAR]
    kinds = np.select(tests, range(len(tests)), len(tests))
    return np.where(_triples(person)[:, 2] > 0, kinds, _UNLABELLED)


def _similarity(
    detection: Mapping[str, Any], person: Mapping[str, Any], skeleton: Skeleton, *, mirrored: bool = False
) -> Float64[np.ndarray, " k"]:
    """Section 2.3's ks of each keypoint with the person's own or mirrored one; 0 where that has no label."""
    target = _triples(person)[list(skeleton.flip_permutation)] if mirrored else _triples(person)
    squared = ((_triples(detection)[:, :2] - target[:, :2]) ** 2).sum(axis=1)
    constants = (2 * np.array(skeleton.sigmas)) ** 2
    similarity = np.exp(-squared / (2 * (person["area"] + np.spacing(1)) * constants))
    return np.where(target[:, 2] > 0, similarity, 0.0)


def _triples(entry: Mapping[str, Any]) -> Float64[np.ndarray, "k 3"]:
    return np.asarray(entry["keypoints"], dtype=np.float64).reshape(-1, 3)


def _count(kinds: Int64[np.ndarray, "*n"]) -> dict[str, int]:
    return {name: int(np.count_nonzero(kinds == i)) for i, name in enumerate(KINDS)}


def _grouped(values: Mapping[int, float], limits: Mapping[str, float]) -> dict[int, str]:
    """The first group below whose limit a value is, in ascending order of the values."""
    ordered = sorted(values, key=lambda one: values[one])
    return {one: next(name for name, limit in limits.items() if values[one] < limit) for one in ordered}


def _neighbours(people: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
    """For each person, the number of others whose boxes overlap with theirs; crowd regions are nobody."""
    by_image: dict[int, list[int]] = {}
    for one, person in people.items():
        by_image.setdefault(person["image_id"], []).append(one)
    found: dict[int, float] = {}
    for ids in by_image.values():
        boxes = np.array([people[one]["bbox"] for one in ids], dtype=np.float64)
        crowds = np.array([people[one]["iscrowd"] for one in ids], dtype=bool)
        overlaps = (iou(boxes, boxes, [0] * len(ids)) > _OVERLAP) & ~np.eye(len(ids), dtype=bool) & ~crowds
        found.update(zip(ids, overlaps.sum(axis=1).astype(float).tolist(), strict=True))
    return found
