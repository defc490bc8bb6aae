"""Render one crowd: people and objects from far to near, and the annotations that the drawing bears out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64, UInt8

from swahr.data.synthetic.appearance import sample_outfits
from swahr.data.synthetic.body import INDEX, Bodies
from swahr.data.synthetic.painter import PART_BITS, Canvas, paint_person, soft_shadow
from swahr.data.synthetic.scenery import paint_background, paint_object
from swahr.data.synthetic.shapes import person_shapes
from swahr.data.synthetic.textures import texture_bank
from swahr.data.synthetic.visibility import landmark_visibility
from swahr.structures import ABSENT, VISIBLE

_KEYPOINT_STEP = 64.0
"""Coordinates are rounded to 1/64 pixel, so that the half pixel of COCO's JSON leaves them exact."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered image and its people. Frame: image.

    The first ``len(keypoints)`` rows of ``area`` and ``boxes`` belong to the labelled people; any further
    rows belong to people too hidden to be labelled, whose pixels are False in ``valid``.

    Attributes:
        area: visible pixels.
        boxes: around the visible pixels, (x, y, width, height).
    """

    image: UInt8[np.ndarray, "H W 3"]
    keypoints: Float64[np.ndarray, "p k 2"]
    visibility: Int64[np.ndarray, "p k"]
    area: Float64[np.ndarray, " q"]
    boxes: Float64[np.ndarray, "q 4"]
    valid: Bool[np.ndarray, "H W"]


def paint_crowd(
    rng: np.random.Generator,
    bodies: Bodies,
    size: tuple[int, int],
    objects: int,
    clutter: int,
    background_contrast: float,
) -> Canvas:
    """Paint people (ordered from far to near) and ``objects`` in front of some of them."""
    eye_level = float(bodies.points[-1, INDEX["neck"], 1]) if len(bodies) else size[0] / 2
    horizon = eye_level + size[0] * rng.uniform(-0.1, 0.35)
    canvas = Canvas.on(paint_background(rng, size, horizon, clutter, background_contrast))
    if len(bodies):
        _paint_people(rng, canvas, bodies, objects)
    return canvas


def _paint_people(rng: np.random.Generator, canvas: Canvas, bodies: Bodies, objects: int) -> None:
    outfits = sample_outfits(rng, len(bodies), len(texture_bank().patterns))
    angle = rng.uniform(-np.pi, 0.0)
    light = rng.uniform(0.4, 1.0) * np.array([np.cos(angle), np.sin(angle)])
    shapes = person_shapes(bodies, outfits, light)
    in_front_of = rng.integers(0, len(bodies), objects)
    for person in range(len(bodies)):
        _cast_shadow(canvas.image, bodies, person)
        paint_person(canvas, shapes[person], bodies, outfits, person)
        for _ in range(int(np.count_nonzero(in_front_of == person))):
            x, y = bodies.points[person, :, 0], bodies.points[person, :, 1]
            foot = (rng.uniform(x.min(), x.max()), rng.uniform(y.mean(), y.max()))
            paint_object(rng, canvas, foot, float(bodies.stature[person]))


def _cast_shadow(image: npt.NDArray[np.uint8], bodies: Bodies, person: int) -> None:
    feet = bodies.points[
        person, [INDEX[name] for name in ("left_toe", "right_toe", "left_ankle", "right_ankle")]
    ]
    stature = float(bodies.stature[person])
    centre = (float(feet[:, 0].mean()), float(feet[:, 1].max()))
    wide = float(np.ptp(feet[:, 0])) / 2 + 0.16 * stature
    soft_shadow(image, centre, (wide, 0.05 * stature))


def annotate(canvas: Canvas, image: npt.NDArray[np.uint8], bodies: Bodies, landmarks: Sequence[int]) -> Scene:
    """Label everybody of whom at least one keypoint can be seen.

    ``landmarks`` are the indices of the skeleton's keypoints; ``image`` is the canvas as photographed.
    """
    visibility = landmark_visibility(bodies, canvas.ids)[:, landmarks]
    keypoints = np.rint(bodies.points[:, landmarks, :2] * _KEYPOINT_STEP) / _KEYPOINT_STEP
    keypoints = np.where(visibility[..., None] == ABSENT, 0.0, keypoints)
    owner = np.asarray(canvas.ids >> PART_BITS, dtype=np.uint16)
    area, boxes = _extents(owner, len(bodies))
    labelled = (visibility == VISIBLE).any(axis=1)
    unlabelled = ~labelled & (area > 0)
    order = np.concatenate([np.flatnonzero(labelled), np.flatnonzero(unlabelled)])
    valid = np.ones(canvas.ids.shape, dtype=np.bool_)
    for person in np.flatnonzero(unlabelled):
        valid &= owner != person + 1
    return Scene(
        image=image,
        keypoints=keypoints[labelled],
        visibility=visibility[labelled],
        area=area[order],
        boxes=boxes[order],
        valid=valid,
    )


def _extents(
    owner: npt.NDArray[np.uint16], count: int
) -> tuple[Float64[np.ndarray, " p"], Float64[np.ndarray, "p 4"]]:
    """Visible pixels and their bounding box (x, y, width, height) per person."""
    area, boxes = np.zeros(count), np.zeros((count, 4))
    for person in range(count):
        shown = (owner == person + 1).view(np.uint8)
        area[person] = cv2.countNonZero(shown)
        boxes[person] = cv2.boundingRect(shown)
    return area, boxes
