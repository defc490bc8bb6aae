"""Skeletons over images: one colour per person, lighter on the left side and darker on the right."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float

from swahr.draw.palette import BLACK, WHITE, Colour, Picture, mix, person_colour
from swahr.geometry import INDEX_FROM_POINT
from swahr.images import check_image
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, OCCLUDED, Annotations, Poses

_SEEN = 0.1  # what scores less is mostly made up by recovery
_FRACTION_BITS = 4  # OpenCV's fixed-point coordinates: sixteenths of a pixel
_LIMB_OPACITY = 0.85
_FULL_SCORE = 0.5  # from this keypoint score on, limbs have their full width
_WIDTH_OF_HIDDEN = 0.35
_ANGLES = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)  # cv2.circle makes a diamond of a small one


def draw_poses(
    image: Picture, poses: Poses, *, threshold: float = _SEEN, person_threshold: float = _SEEN
) -> Picture:
    """Draw the people found in an image; limbs and dots get thinner as keypoint scores fall.

    With occlusion maps, hidden keypoints are hollow circles (`swahr.structures.Poses.hidden`).

    In the published method every person is made complete. By default, keypoints that were filled in where
    next to nothing was seen are not drawn, nor are people with only one or two visible keypoints.

    Args:
        image: RGB, ``(H, W, 3)``, the image of the poses. It is copied, not changed.
        poses: frame: image.
        threshold: keypoints whose score is lower are left out.
        person_threshold: people whose score is lower are left out.
    """
    shown = _shown(poses, threshold, person_threshold)
    strength = np.clip(poses.scores / _FULL_SCORE, _WIDTH_OF_HIDDEN, 1.0)
    strength = np.where(shown, strength, 0.0)
    return _draw_people(image, poses.keypoints, strength, poses.skeleton, hidden=poses.hidden)


def count_drawn(poses: Poses, *, threshold: float = _SEEN, person_threshold: float = _SEEN) -> int:
    """How many people `draw_poses` draws with the same thresholds."""
    return int(_shown(poses, threshold, person_threshold).any(axis=1).sum())


def draw_annotations(image: Picture, annotations: Annotations, skeleton: Skeleton) -> Picture:
    """Draw the annotated people of an image; occluded keypoints are thin, absent ones are left out.

    Args:
        image: RGB, ``(H, W, 3)``, in the frame of the annotations. It is copied, not changed.
        annotations: the people to draw.
        skeleton: describes their keypoints.
    """
    visibility = annotations.visibility
    strength = np.select([visibility == ABSENT, visibility == OCCLUDED], [0.0, _WIDTH_OF_HIDDEN], 1.0)
    return _draw_people(image, annotations.keypoints, strength, skeleton)


class _Person(NamedTuple):
    points: Float[np.ndarray, "k 2"]
    strength: Float[np.ndarray, " k"]  # relative width of each keypoint, 0 where it is not to be drawn
    width: float  # of limbs, in pixels
    colour: Colour
    colours: list[Colour]  # of the keypoints
    hidden: Bool[np.ndarray, " k"]  # which are hollow


def _shown(poses: Poses, threshold: float, person_threshold: float) -> Bool[np.ndarray, "p k"]:
    return poses.present & (poses.scores >= threshold) & (poses.score >= person_threshold)[:, None]


def _draw_people(
    image: Picture,
    points: Float[np.ndarray, "p k 2"],
    strength: Float[np.ndarray, "p k"],
    skeleton: Skeleton,
    *,
    hidden: Bool[np.ndarray, "p k"] | None = None,
) -> Picture:
    check_image(image)
    if points.shape[1] != skeleton.num_keypoints:
        raise ValueError(
            f"expected the {skeleton.num_keypoints} keypoints of skeleton '{skeleton.name}', "
            f"got {points.shape[1]} per person; pass the skeleton that the people belong to"
        )
    tints = {left: (WHITE, 0.35) for left, _ in skeleton.flip_pairs}
    tints |= {right: (BLACK, 0.3) for _, right in skeleton.flip_pairs}
    side = max(image.shape[:2])
    hollow = np.zeros(strength.shape, dtype=bool) if hidden is None else hidden & (strength > 0)
    people = []
    for i in np.flatnonzero(strength.any(axis=1))[::-1].tolist():
        # Limbs widen with the person's extent, within limits that follow from the image's longer side.
        extent = np.linalg.norm(np.ptp(points[i][strength[i] > 0], axis=0))
        width = float(np.clip(0.018 * extent, max(1.4, 0.003 * side), max(2.5, 0.008 * side)))
        colour = person_colour(i)
        colours = [mix(colour, *tints.get(name, (BLACK, 0.0))) for name in skeleton.keypoints]
        people.append(_Person(points[i], strength[i], width, colour, colours, hollow[i]))
    # The largest first, so that people in front (mostly small) are not painted over.
    people.sort(key=lambda person: person.width, reverse=True)
    limbs = image.copy()
    for person in people:
        _draw_limbs(limbs, person, skeleton)
    canvas = np.asarray(cv2.addWeighted(limbs, _LIMB_OPACITY, image, 1 - _LIMB_OPACITY, 0.0), dtype=np.uint8)
    for person in people:
        _draw_dots(canvas, person)
        if person.hidden.any():
            _hollow(canvas, person, image)
    return canvas


def _draw_limbs(canvas: Picture, person: _Person, skeleton: Skeleton) -> None:
    """Tapered bars with dark rims and fractional ends and widths, which `cv2.line` does not offer."""
    strength, colours = person.strength, person.colours
    limbs = [[a, b] for a, b in skeleton.limb_indices if strength[a] > 0 and strength[b] > 0]
    for rim in (0.6, 0.0):
        for a, b in limbs:
            ends, along = person.points[[a, b]], person.points[b] - person.points[a]
            length = float(np.linalg.norm(along))
            if length > 0:
                across = np.outer(strength[[a, b]] + rim, (-along[1], along[0])) * person.width / length / 2
                sides = person.colour if skeleton.flip_permutation[a] == b else colours[b]
                colour = mix(colours[a], BLACK, 0.75) if rim else sides
                _fill(canvas, np.concatenate([ends + across, (ends - across)[::-1]]), colour)


def _draw_dots(canvas: Picture, person: _Person) -> None:
    rim = max(0.7, 0.3 * person.width)
    for k in np.flatnonzero(person.strength).tolist():
        radius = _radius(person, k)
        _fill(canvas, person.points[k] + (radius + rim) * _CIRCLE, BLACK)
        _fill(canvas, person.points[k] + radius * _CIRCLE, person.colours[k])


def _hollow(canvas: Picture, person: _Person, image: Picture) -> None:
    """Show the image inside the dots of hidden keypoints."""
    inside = np.zeros_like(image)
    for k in np.flatnonzero(person.hidden).tolist():
        radius = _radius(person, k) - max(1.0, 0.35 * person.width)
        _fill(inside, person.points[k] + radius * _CIRCLE, WHITE)
    np.copyto(canvas, image, where=inside > 127)


def _radius(person: _Person, k: int) -> float:
    """The radius of a keypoint's dot in pixels; a hidden one's leaves room for the image."""
    radius = person.width * float(0.35 + 0.5 * person.strength[k])
    return max(2.5, 1.3 * radius) if person.hidden[k] else radius


def _fill(canvas: Picture, corners: Float[np.ndarray, "n 2"], colour: Colour) -> None:
    """Fill a convex polygon; frame: image. Far-off corners, too large for OpenCV's integers, come nearer."""
    size = np.array(canvas.shape[1::-1])
    index = np.clip(INDEX_FROM_POINT.apply(corners), -4 * size, 5 * size)
    fixed = np.round(index * 2**_FRACTION_BITS).astype(np.int32)
    cv2.fillConvexPoly(canvas, fixed, colour, cv2.LINE_AA, _FRACTION_BITS)
