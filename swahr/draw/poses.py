"""Skeletons over images: one colour per person, lighter on the left side and darker on the right."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int32, UInt8

from swahr.draw.image_file import check_image
from swahr.draw.palette import BLACK, WHITE, Colour, mix, person_colour
from swahr.geometry import INDEX_FROM_POINT
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
    image: UInt8[np.ndarray, "H W 3"],
    poses: Poses,
    *,
    threshold: float = _SEEN,
    person_threshold: float = _SEEN,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the people found in an image; limbs and dots get thinner as keypoint scores fall.

    By default what recovery filled in where next to nothing was seen is not drawn, nor people of whom one or
    two keypoints were: in the published method every person is made complete.

    Args:
        image: RGB, the image the poses live in. It is not changed.
        poses: frame: image.
        threshold: keypoints whose score is lower are left out.
        person_threshold: people whose score is lower are left out.

    Returns:
        A new image of the same size.
    """
    shown = _shown(poses, threshold, person_threshold)
    strength = np.clip(poses.scores / _FULL_SCORE, _WIDTH_OF_HIDDEN, 1.0)
    return _draw_people(image, poses.keypoints, np.where(shown, strength, 0.0), poses.skeleton)


def count_drawn(poses: Poses, *, threshold: float = _SEEN, person_threshold: float = _SEEN) -> int:
    """How many people `draw_poses` draws with the same thresholds."""
    return int(_shown(poses, threshold, person_threshold).any(axis=1).sum())


def _shown(poses: Poses, threshold: float, person_threshold: float) -> Bool[np.ndarray, "p k"]:
    return poses.present & (poses.scores >= threshold) & (poses.score >= person_threshold)[:, None]


def draw_annotations(
    image: UInt8[np.ndarray, "H W 3"], annotations: Annotations, skeleton: Skeleton
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the annotated people of an image; occluded keypoints are thin, absent ones are left out.

    Args:
        image: RGB, in the frame of the annotations. It is not changed.
        annotations: whom to draw.
        skeleton: whose keypoints they are.

    Returns:
        A new image of the same size.
    """
    strength = np.where(annotations.visibility == OCCLUDED, _WIDTH_OF_HIDDEN, 1.0)
    strength = np.where(annotations.visibility == ABSENT, 0.0, strength)
    return _draw_people(image, annotations.keypoints, strength, skeleton)


def _draw_people(
    image: UInt8[np.ndarray, "H W 3"],
    keypoints: Float64[np.ndarray, "p k 2"],
    strength: Float64[np.ndarray, "p k"],
    skeleton: Skeleton,
) -> UInt8[np.ndarray, "H W 3"]:
    """``strength`` is the relative width of each keypoint, 0 where it is not to be drawn."""
    check_image(image)
    if keypoints.shape[1] != skeleton.num_keypoints:
        raise ValueError(
            f"expected the {skeleton.num_keypoints} keypoints of skeleton '{skeleton.name}', "
            f"got {keypoints.shape[1]} per person; pass the skeleton that the people belong to"
        )
    # The largest first, so that people in front (mostly small) are not painted over.
    widths = [
        _limb_width(points[seen > 0], image.shape) for points, seen in zip(keypoints, strength, strict=True)
    ]
    order = [int(person) for person in np.argsort(widths, kind="stable")[::-1] if strength[person].any()]
    limbs = image.copy()
    for person in order:
        _draw_limbs(limbs, keypoints[person], strength[person], skeleton, person, widths[person])
    canvas = cv2.addWeighted(limbs, _LIMB_OPACITY, image, 1 - _LIMB_OPACITY, 0.0)
    for person in order:
        _draw_dots(canvas, keypoints[person], strength[person], skeleton, person, widths[person])
    return np.asarray(canvas, dtype=np.uint8)


def _limb_width(points: Float64[np.ndarray, "n 2"], image_shape: tuple[int, ...]) -> float:
    """Limb width in pixels: it follows the person's extent, within what the image's size makes readable."""
    if not len(points):
        return 0.0
    extent = float(np.linalg.norm(np.ptp(points, axis=0)))
    side = float(max(image_shape[:2]))
    return float(np.clip(0.018 * extent, max(1.4, 0.003 * side), max(2.5, 0.008 * side)))


def _side_colours(skeleton: Skeleton, person: int) -> list[Colour]:
    """One colour per keypoint: the person's, lighter on the left and darker on the right."""
    base = person_colour(person)
    left = {pair[0] for pair in skeleton.flip_pairs}
    right = {pair[1] for pair in skeleton.flip_pairs}
    return [
        mix(base, WHITE, 0.35) if name in left else mix(base, BLACK, 0.3) if name in right else base
        for name in skeleton.keypoints
    ]


def _draw_limbs(
    canvas: UInt8[np.ndarray, "H W 3"],
    points: Float64[np.ndarray, "k 2"],
    strength: Float64[np.ndarray, " k"],
    skeleton: Skeleton,
    person: int,
    width: float,
) -> None:
    colours = _side_colours(skeleton, person)
    limbs = [(a, b) for a, b in skeleton.limb_indices if strength[a] > 0 and strength[b] > 0]
    for a, b in limbs:
        _fill_limb(
            canvas, points[[a, b]], width * strength[[a, b]] + 0.6 * width, mix(colours[a], BLACK, 0.75)
        )
    for a, b in limbs:
        crosses = {skeleton.flip_permutation[a], a} == {a, b} and a != b
        colour = person_colour(person) if crosses else colours[b]
        _fill_limb(canvas, points[[a, b]], width * strength[[a, b]], colour)


def _fill_limb(
    canvas: UInt8[np.ndarray, "H W 3"],
    ends: Float64[np.ndarray, "2 2"],
    widths: Float64[np.ndarray, " 2"],
    colour: Colour,
) -> None:
    """A tapered bar with fractional ends and widths, which `cv2.line` does not offer."""
    along = ends[1] - ends[0]
    length = float(np.linalg.norm(along))
    if length == 0.0:
        return
    across = np.array([-along[1], along[0]]) / length * widths[:, None] / 2
    corners = np.concatenate([ends + across, (ends - across)[::-1]])
    cv2.fillConvexPoly(canvas, _fixed_point(corners, canvas), colour, cv2.LINE_AA, _FRACTION_BITS)


def _draw_dots(
    canvas: UInt8[np.ndarray, "H W 3"],
    points: Float64[np.ndarray, "k 2"],
    strength: Float64[np.ndarray, " k"],
    skeleton: Skeleton,
    person: int,
    width: float,
) -> None:
    colours = _side_colours(skeleton, person)
    rim = max(0.7, 0.3 * width)
    for k in np.flatnonzero(strength):
        radius = width * float(0.35 + 0.5 * strength[k])
        for reach, colour in ((radius + rim, BLACK), (radius, colours[k])):
            disc = _fixed_point(points[k] + reach * _CIRCLE, canvas)
            cv2.fillConvexPoly(canvas, disc, colour, cv2.LINE_AA, _FRACTION_BITS)


def _fixed_point(
    points: Float64[np.ndarray, "*n 2"], canvas: UInt8[np.ndarray, "H W 3"]
) -> Int32[np.ndarray, "*n 2"]:
    """Continuous coordinates to OpenCV's fixed-point indices; far-off ones, which overflow, come nearer."""
    size = np.array(canvas.shape[1::-1])
    index = np.clip(INDEX_FROM_POINT.apply(points), -4 * size, 5 * size)
    fixed: Int32[np.ndarray, "*n 2"] = np.round(index * 2**_FRACTION_BITS).astype(np.int32)
    return fixed
