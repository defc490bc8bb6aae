"""Draw people onto a picture and, in step with it, into a buffer that says whose part each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.data.synthetic.appearance import LOWER, MATERIALS, PART, SKIN, UPPER, Outfits
from swahr.data.synthetic.body import HEAD_RADII, INDEX, Bodies
from swahr.data.synthetic.shapes import SHADES, SHIFT, Shape, to_fixed_point
from swahr.data.synthetic.textures import TILE, texture_bank

PART_BITS = 6
NOBODY = 0
THING = 0xFFFF
"""Values of the id buffer that belong to no person: the background, and objects in front of it."""

_BRIGHTEST = 64  # a cloth texture multiplies by value / 64
_TEXTURED_FROM = 40.0  # statures in pixels below which cloth shows no pattern


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture (RGB) and its id buffer: ``(person + 1) << PART_BITS | part``, `NOBODY` or `THING`."""

    image: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.uint16]

    @classmethod
    def on(cls, background: npt.NDArray[np.uint8]) -> Canvas:
        """A canvas that shows ``background`` and nobody."""
        return cls(background, np.zeros(background.shape[:2], np.uint16))


def paint_person(canvas: Canvas, shapes: list[Shape], bodies: Bodies, outfits: Outfits, person: int) -> None:
    """Draw one person's parts from back to front, then the weave of the clothes."""
    stature = float(bodies.stature[person])
    depths = np.array([shape.depth for shape in shapes]) - bodies.points[person, INDEX["pelvis"], 2]
    tones = np.clip(0.98 + 0.9 * depths / stature, 0.72, 1.06)
    plain = outfits.colours[person, [shape.part for shape in shapes]]
    shaded = np.minimum(plain[:, None] * (tones[:, None] * SHADES)[..., None], 255).tolist()
    for shape, colours in zip(shapes, shaded, strict=True):
        identity = (person + 1) << PART_BITS | shape.part
        cv2.fillConvexPoly(canvas.ids, shape.polygons[0], identity, cv2.LINE_8, SHIFT)
        for polygon, step in zip(shape.polygons, shape.steps, strict=True):
            cv2.fillConvexPoly(canvas.image, polygon, colours[step], cv2.LINE_AA, SHIFT)
        if shape.part == PART["face"]:
            _paint_face(canvas.image, bodies, outfits, person)
    if stature >= _TEXTURED_FROM:
        _weave(canvas, shapes, bodies, outfits, person)


def _paint_face(image: npt.NDArray[np.uint8], bodies: Bodies, outfits: Outfits, person: int) -> None:
    size = float(bodies.stature[person] * bodies.head_size[person])
    if size < 50:
        return
    skin = outfits.colours[person, PART["face"]].astype(np.float64)
    hair = outfits.colours[person, PART["head"]].astype(np.float64)
    rotation, centre = bodies.head[person], bodies.points[person, INDEX["head_centre"]]
    face = _Face(image, rotation, centre, size)
    for sign in (1.0, -1.0):
        eye = (0.42 * sign, -0.1, 0.88)
        face.dot(eye, 0.0095, (skin * 0.3 + 165).clip(0, 255))
        face.dot(eye, 0.0055, np.array([38.0, 26.0, 22.0]))
        face.stroke((0.2 * sign, -0.38, 0.9), (0.62 * sign, -0.38, 0.7), 0.004, hair * 0.8)
    if outfits.glasses[person]:
        for sign in (1.0, -1.0):
            face.dot((0.42 * sign, -0.1, 0.9), 0.015, np.array([30.0, 30.0, 34.0]))
            face.stroke((0.42 * sign, -0.1, 0.92), (0.0, -0.12, 1.0), 0.004, np.array([30.0, 30.0, 34.0]))
    face.stroke((0.0, -0.1, 1.0), (0.0, 0.2, 1.1), 0.012, np.minimum(skin * 1.05, 255))
    face.stroke((-0.14, 0.27, 0.98), (0.14, 0.27, 0.98), 0.006, skin * 0.66)
    face.stroke((-0.27, 0.56, 0.78), (0.27, 0.56, 0.78), 0.009, skin * (0.78, 0.5, 0.5))


@dataclass(frozen=True, eq=False)
class _Face:
    """Dots and strokes on the side of a head that is turned to the viewer; sizes in statures."""

    image: npt.NDArray[np.uint8]
    rotation: Float64[np.ndarray, "3 3"]
    centre: Float64[np.ndarray, " xyz=3"]
    size: float

    def _project(self, point: tuple[float, float, float]) -> tuple[npt.NDArray[np.int32], float]:
        turned = self.rotation @ (np.array(point) * HEAD_RADII)
        facing = float(self.rotation[2] @ (np.array(point) / np.array(HEAD_RADII))) * 0.05
        return to_fixed_point(self.centre[:2] + self.size * turned[:2]), facing

    def dot(self, point: tuple[float, float, float], radius: float, colour: npt.NDArray[np.float64]) -> None:
        at, facing = self._project(point)
        if facing > 0.08:
            axes = np.rint(
                radius * self.size * (1 << SHIFT) * np.array([min(1.0, facing + 0.25), 0.8])
            ).astype(int)
            cv2.ellipse(
                self.image,
                at.tolist(),
                axes.tolist(),
                0.0,
                0.0,
                360.0,
                colour.tolist(),
                -1,
                cv2.LINE_AA,
                SHIFT,
            )

    def stroke(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        width: float,
        colour: npt.NDArray[np.float64],
    ) -> None:
        (a, facing_a), (b, facing_b) = self._project(start), self._project(end)
        if min(facing_a, facing_b) > 0.05:
            thickness = max(1, round(width * self.size))
            cv2.line(self.image, a.tolist(), b.tolist(), colour.tolist(), thickness, cv2.LINE_AA, SHIFT)


def _weave(canvas: Canvas, shapes: list[Shape], bodies: Bodies, outfits: Outfits, person: int) -> None:
    """Multiply the person's pixels by folds and, on the garments, by their pattern."""
    height, width = canvas.ids.shape
    corners = np.concatenate([shape.polygons[0] for shape in shapes]) >> SHIFT
    left, top = np.maximum(corners.min(axis=0), 0).tolist()
    right, bottom = np.minimum(corners.max(axis=0) + 2, (width, height)).tolist()
    if left >= right or top >= bottom:
        return
    ids = canvas.ids[top:bottom, left:right]
    parts = np.where(ids >> PART_BITS == person + 1, ids & ((1 << PART_BITS) - 1), len(MATERIALS))
    material = np.append(MATERIALS, 255).astype(np.uint8)[parts]
    region = canvas.image[top:bottom, left:right]
    frame = _cloth_frame(bodies, person, (left, top))
    size = (right - left, bottom - top)
    folds = _tiled(texture_bank().folds, frame, 0.6, size) >> 1
    folds[material == SKIN] = _BRIGHTEST
    factors = cv2.cvtColor(folds, cv2.COLOR_GRAY2RGB)
    for garment, which in ((UPPER, 0), (LOWER, 1)):
        if outfits.pattern[person, which] >= 0:
            pattern = texture_bank().patterns[outfits.pattern[person, which]]
            period = float(outfits.pattern_size[person, which])
            woven = cv2.LUT(
                cv2.cvtColor(_tiled(pattern, frame, period, size), cv2.COLOR_GRAY2RGB),
                _dye(outfits, person, which),
            )
            cv2.copyTo(woven, _mask(material == garment), factors)
    lit = cv2.multiply(region, factors, scale=1.0 / _BRIGHTEST)
    cv2.copyTo(lit, _mask(material != 255), region)


def _mask(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.asarray(chosen.view(np.uint8))


def _cloth_frame(bodies: Bodies, person: int, corner: tuple[int, int]) -> npt.NDArray[np.float64]:
    """From pixels of a region to statures along and across the trunk."""
    neck, pelvis = (bodies.points[person, INDEX[name], :2] for name in ("neck", "pelvis"))
    down = (pelvis - neck) / max(float(np.hypot(*(pelvis - neck))), 1e-6)
    linear = np.array([[down[1], -down[0]], [down[0], down[1]]]) / float(bodies.stature[person])
    return np.concatenate([linear, (linear @ (np.array(corner) - neck))[:, None]], axis=1)


def _tiled(
    tile: npt.NDArray[np.uint8], frame: npt.NDArray[np.float64], period: float, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """A repeating tile that spans ``period`` statures, laid over a region of ``size`` (w, h)."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(tile, frame * (TILE / period), size, flags=flags, borderMode=cv2.BORDER_WRAP)
    return np.asarray(laid, dtype=np.uint8)


def _dye(outfits: Outfits, person: int, which: int) -> npt.NDArray[np.uint8]:
    """Per grey value of a pattern, the factor (times 64) that turns the first colour towards the second."""
    part = PART["chest"] if which == 0 else PART["pelvis"]
    first, second = outfits.colours[person, part].astype(np.float64), outfits.second[person, which]
    share = np.linspace(0.0, 1.0, 256)[:, None, None]
    ratio = 1.0 + share * (second / np.maximum(first, 20.0) - 1.0)
    return np.asarray(np.clip(ratio * _BRIGHTEST, 0, 255), dtype=np.uint8)


def soft_shadow(image: npt.NDArray[np.uint8], centre: tuple[float, float], axes: tuple[float, float]) -> None:
    """Darken an ellipse softly (the ground under somebody's feet)."""
    height, width = image.shape[:2]
    left, top = int(centre[0] - axes[0]), int(centre[1] - axes[1])
    right, bottom = left + max(2, int(2 * axes[0])), top + max(2, int(2 * axes[1]))
    seen = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    if seen[0].start >= seen[0].stop or seen[1].start >= seen[1].stop:
        return
    glow = cv2.resize(texture_bank().glow, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    cut = glow[seen[0].start - top : seen[0].stop - top, seen[1].start - left : seen[1].stop - left]
    dark = 255 - np.asarray(cut, dtype=np.uint8) // 2
    image[seen] = cv2.multiply(image[seen], cv2.cvtColor(dark, cv2.COLOR_GRAY2RGB), scale=1 / 255)
