"""Plausibility of annotations: faults that have the right types, and make metrics or training wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from swahr.coco_json import AREA_OF_BOX
from swahr.data.coco_file import CocoAnnotation, CocoImage
from swahr.keypoint_names import sides_of
from swahr.skeleton import Skeleton

_EXAMPLES = 3


@dataclass(frozen=True)
class Findings:
    """What is implausible in the annotations of some images.

    Attributes:
        source: the file's name.
        counts: plain values: images, people, ignored people by reason, how often each fault occurs.
        errors: faults that make metrics or training wrong, each with three examples and the remedy.
        warnings: faults that probably do.
        suspicious: (index, reason) of images with examples of them.
    """

    source: str
    counts: Mapping[str, Any]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    suspicious: tuple[tuple[int, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Counts, errors and warnings as plain values, for stamps."""
        return {**self.counts, "errors": list(self.errors), "warnings": list(self.warnings)}

    def summary(self) -> str:
        """The counts in one line."""
        counts = self.counts
        ignored = [f"{one['count']} {reason}" for reason, one in counts["ignored"].items() if one["count"]]
        return (
            f"{self.source}: {counts['images']} images, {counts['people']} people with keypoints "
            f"({counts['evaluated']} count in evaluation), ignored: {', '.join(ignored) or 'nobody'}; "
            f"{counts['areas_from_boxes']} areas from boxes; {counts['flip_pairs']} flip pairs"
        )


@dataclass(frozen=True, eq=False)
class _People:
    """The labelled people of some images. Frame: image, in pixel indices."""

    points: Float64[np.ndarray, "p k 2"]
    labelled: Bool[np.ndarray, "p k"]
    boxes: Float64[np.ndarray, "p 4"]  # NaN without a box
    areas: Float64[np.ndarray, " p"]
    counts: Float64[np.ndarray, " p"]  # the file's num_keypoints; NaN without one
    sizes: Float64[np.ndarray, "p 2"]  # (w, h) of the image
    images: Int[np.ndarray, " p"]  # indices
    ids: Sequence[Any]

    @cached_property
    def outside(self) -> Float64[np.ndarray, "p k"]:
        """How far points lie outside their image, as a fraction of its longer side; negative inside."""
        return self.beyond(self.sizes)

    def beyond(self, sizes: Float64[np.ndarray, "p 2"]) -> Float64[np.ndarray, "p k"]:
        """The same for images of other ``sizes`` (w, h); minus infinity for unlabelled points."""
        over = np.maximum(-0.5 - self.points, self.points - sizes[:, None] + 0.5)
        farthest = np.maximum(over[..., 0], over[..., 1])
        return np.where(self.labelled, farthest / sizes.max(axis=1, keepdims=True), -np.inf)

    @cached_property
    def turned(self) -> Bool[np.ndarray, " p"]:
        """Whether people are in images with points outside that all fit if height and width are exchanged."""
        misfits = np.bincount(self.images, (self.beyond(self.sizes[:, ::-1]) > 0.01).sum(axis=1))
        outside = np.bincount(self.images, (self.outside > 0.02).sum(axis=1))
        return np.asarray(((outside >= 2) & (misfits == 0))[self.images])

    @property
    def extent(self) -> Float64[np.ndarray, " p"]:
        """The longer side of the smallest box around the labelled points."""
        labelled = self.labelled[..., None]
        low = np.where(labelled, self.points, np.inf).min(axis=1)
        return np.asarray((np.where(labelled, self.points, -np.inf).max(axis=1) - low).max(axis=1))


class _Fault(NamedTuple):
    """A kind of fault: who has it, in words, and what to do; it is reported above a ``share`` of people."""

    mask: Bool[np.ndarray, " p"]
    what: str
    remedy: str
    is_error: bool = True
    share: float = 0.0


def examine(images: Sequence[CocoImage], skeleton: Skeleton, *, source: str) -> Findings:
    """Look for implausible annotations, by thresholds that COCO, CrowdPose and OCHuman pass.

    ``source`` is the file's name, for messages.
    """
    people, ignored, phantoms = _divided(images)
    texts: dict[bool, list[str]] = {True: [], False: []}
    suspicious: list[tuple[int, str]] = []
    for fault in _faults(people) if people.ids else ():
        if fault.mask.mean() > fault.share:
            who: list[int] = np.flatnonzero(fault.mask).tolist()
            texts[fault.is_error].append(
                f"{len(who)} of {len(people.ids)} people {fault.what} "
                f"(annotations {_listed([people.ids[i] for i in who])}): {fault.remedy}"
            )
            shown = {int(people.images[i]): people.ids[i] for i in reversed(who)}
            few = sorted(shown)[:_EXAMPLES]
            suspicious += [(i, f"people {fault.what} (annotation {shown[i]})") for i in few]
    unpaired = [*skeleton.lone_sides(), *skeleton.lone_sides(letters=True)]
    for is_error, text in _general_faults(people, phantoms, skeleton, unpaired):
        texts[is_error].append(text)
    counts = {
        "images": len(images),
        "people": len(people.ids),
        "evaluated": int(np.count_nonzero(people.counts != 0)) + len(phantoms),
        "ignored": {why: {"count": len(ids), "examples": ids[:_EXAMPLES]} for why, ids in ignored.items()},
        **_counts(people),
        "flip_pairs": len(skeleton.flip_pairs),
        "names_without_partner": unpaired,
    }
    return Findings(source, counts, tuple(texts[True]), tuple(texts[False]), tuple(suspicious))


def _divided(images: Sequence[CocoImage]) -> tuple[_People, dict[str, list[Any]], list[Any]]:
    """The labelled people; ids of the others by reason; ids of those whose ``num_keypoints`` is too high."""
    labelled: list[tuple[int, CocoAnnotation]] = []
    ignored: dict[str, list[Any]] = {"crowd regions": [], "without labelled keypoints": []}
    phantoms = []
    for index, image in enumerate(images):
        for person in image.annotations:
            if person.is_labelled:
                labelled.append((index, person))
            elif person.entry.get("iscrowd"):
                ignored["crowd regions"].append(person.entry["id"])
            else:
                ignored["without labelled keypoints"].append(person.entry["id"])
                if person.entry.get("num_keypoints"):
                    phantoms.append(person.entry["id"])
    people = [person for _, person in labelled]
    keypoints = np.array([person.keypoints for person in people] or np.zeros((0, 1, 3)), dtype=np.float64)
    boxes = [person.entry.get("bbox") or [np.nan] * 4 for person in people]
    counts = [person.entry.get("num_keypoints") for person in people]
    found = _People(
        points=keypoints[..., :2],
        labelled=keypoints[..., 2] > 0,
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        areas=np.array([person.area for person in people], dtype=np.float64),
        counts=np.array([np.nan if count is None else count for count in counts], dtype=np.float64),
        sizes=np.array([images[i].size[::-1] for i, _ in labelled], dtype=np.float64).reshape(-1, 2),
        images=np.array([i for i, _ in labelled], dtype=np.int64),
        ids=[person.entry["id"] for person in people],
    )
    return found, ignored, phantoms


def _faults(people: _People) -> Iterator[_Fault]:
    yield from _faults_of_points(people)
    yield from _faults_of_areas(people)
    yield from _faults_of_boxes(people)
    uncounted = people.counts == 0
    remedy = "evaluation ignores them; correct num_keypoints, or remove it and the keypoints are counted"
    what = "have num_keypoints 0 although keypoints are labelled"
    yield _Fault(uncounted, what, remedy, is_error=bool(uncounted.all()), share=0.5)  # CrowdPose: up to 0.25
    keys = [(i, points.tobytes()) for i, points in zip(people.images, people.points, strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    again = np.array([first[key] != i for i, key in enumerate(keys)])
    remedy = "each copy counts as a person that is not found; remove them"
    yield _Fault(again, "repeat another person of their image", remedy, is_error=False, share=0.01)


def _faults_of_points(people: _People) -> Iterator[_Fault]:
    points, labelled, outside, sizes = people.points, people.labelled, people.outside, people.sizes
    # Fractions or percentages of the image's size; the latter need many people to be sure of.
    highest = points[labelled].max()
    if highest <= 1 or (highest <= 100 and len(points) >= 20 and sizes.min() > 200):
        yield _Fault(
            np.ones(len(points), dtype=bool),
            f"lie within the first {1 if highest <= 1 else 100} pixels of their image",
            "the keypoints look like fractions or percentages of its size; write pixels",
        )
    turned = people.turned
    yield _Fault(
        turned,
        "are in images whose height and width seem to be exchanged",
        "points lie outside the size (h, w), but inside (w, h); the size must be that of the image in which "
        "the points were annotated: after EXIF rotation, or before",
    )
    outside = np.where(turned[:, None], -1.0, outside)
    far = np.asarray((outside > 0.5).any(axis=1))
    remedy = "correct the coordinates, or the image's height and width"
    yield _Fault(far, "have points far outside their image", remedy)
    out = np.asarray(((outside > 0.02) & ~(outside > 0.5)).any(axis=1))
    many = bool(out.mean() > 0.1)
    yield _Fault(out, "have points outside their image", remedy, is_error=many, share=0.001)
    # Placeholders of keypoints that are not annotated, at (0, 0) or (-1, -1).
    at_origin = _at_origin(people)
    near = (people.boxes[:, :2] <= 2).all(axis=1)
    yield _Fault(
        at_origin.any(axis=1) & ~(near & (at_origin.sum(axis=1) == 1)),
        "have labelled points at (0, 0) or (-1, -1)",
        "such placeholders need visibility 0",
    )


def _faults_of_areas(people: _People) -> Iterator[_Fault]:
    remedy = "OKS is relative to the area and falls to 0; write square pixels, or remove 'area': it then is "
    remedy += f"{AREA_OF_BOX} times the box"
    tiny = (people.areas < people.extent**2 / 1000) & (people.outside < 0.5).all(axis=1)
    tiny |= people.areas <= 1
    yield _Fault(tiny, "have an area too small for their keypoints", remedy)
    remedy = "OKS is relative to the area and rises to 1; write square pixels"
    huge = people.areas > 2 * people.sizes.prod(axis=1)
    yield _Fault(huge, "have an area larger than twice their image", remedy)


def _faults_of_boxes(people: _People) -> Iterator[_Fault]:
    corners, sides = people.boxes[:, :2], people.boxes[:, 2:]
    empty = (sides <= 0).any(axis=1) | (sides.prod(axis=1) <= 1)
    remedy = "CrowdPose's protocol derives areas from boxes; write [x, y, width, height] in pixels"
    yield _Fault(empty, "have a box of size 0", remedy)
    # As (x1, y1, x2, y2), every box fits its image; as (x, y, width, height), many do not. One needs several.
    limits = 1.02 * people.sizes + 1
    too_large = np.asarray((corners + sides > limits).any(axis=1))
    if ((sides > corners) & (sides <= limits)).all() and too_large.sum() >= 10 and too_large.mean() > 0.2:
        yield _Fault(too_large, "have a box that leaves the image", "boxes must be [x, y, width, height]")
    remedy = "check that boxes are [x, y, width, height], and belong to the same person as the keypoints"
    yield _Fault(_leaves_box(people), "have points far outside their box", remedy, is_error=False, share=0.05)


def _at_origin(people: _People) -> Bool[np.ndarray, "p k"]:
    zero, minus_one = ((people.points == value).all(axis=-1) for value in (0, -1))
    return np.asarray((zero | minus_one) & people.labelled)


def _leaves_box(people: _People) -> Bool[np.ndarray, " p"]:
    """Whether a point is outside the box by more than half of its longer side."""
    low, sides = people.boxes[:, None, :2], people.boxes[:, None, 2:]
    over = np.maximum(low - people.points, people.points - low - sides).max(axis=-1)
    return np.asarray(((over > 0.5 * sides.max(axis=-1)) & people.labelled).any(axis=1))


def _general_faults(
    people: _People, phantoms: Sequence[Any], skeleton: Skeleton, unpaired: Sequence[str]
) -> Iterator[tuple[bool, str]]:
    """Faults without examples in images: whether each is an error, and its text."""
    if not people.ids:
        yield True, "nobody in these images has labelled keypoints: AP would be -1; choose other images"
    if phantoms:
        text = f"{len(phantoms)} people have num_keypoints above 0 but no labelled keypoint (annotations "
        yield False, f"{text}{_listed(phantoms)}): evaluation looks for them; set num_keypoints to 0"
    if unpaired:
        yield (
            not skeleton.flip_pairs and {"left", "right"} <= set().union(*map(sides_of, unpaired)),
            f"the keypoints {', '.join(unpaired)} look like one of two sides, but have no partner: a mirror "
            "image would keep their names; name them left_… and right_…, or list flip_pairs",
        )


def _counts(people: _People) -> dict[str, Any]:
    """How often each kind of fault occurs, also below the thresholds."""
    if not people.ids:
        return {"areas_from_boxes": 0}
    derived = np.isclose(people.areas, AREA_OF_BOX * people.boxes[:, 2:].prod(axis=1), rtol=1e-6)
    differ = ~np.isnan(people.counts) & (people.counts != people.labelled.sum(axis=1))
    return {
        "areas_from_boxes": int(derived.sum()),
        "points": int(people.labelled.sum()),
        "points_outside": int((people.outside > 0).sum()),
        "share_of_points_at_origin": round(float(_at_origin(people).sum() / people.labelled.sum()), 6),
        "people_outside_box": int(_leaves_box(people).sum()),
        "num_keypoints_differ": int(differ.sum()),
        "turned_images": len(set(people.images[people.turned].tolist())),
    }


def _listed(ids: Sequence[Any]) -> str:
    return ", ".join(map(str, ids[:_EXAMPLES])) + (", …" if len(ids) > _EXAMPLES else "")
