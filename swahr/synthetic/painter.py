"""Painting people into an image and, at the same time, into a buffer of each pixel's person and part."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from swahr.synthetic.appearance import LOWER, MATERIALS, PART, SKIN, UPPER, Outfits
from swahr.synthetic.body import HEAD_RADII, INDEX, Bodies
from swahr.synthetic.shapes import SHADES, SHIFT, Shape, to_fixed_point
from swahr.synthetic.textures import TILE, cropped, texture_bank

PART_BITS = 6
NOBODY = 0
OBJECT = 1
"""Values of the id buffer for the background and for objects in front of people."""

_BRIGHTEST = 64  # a cloth texture multiplies by value / 64
_TEXTURED_FROM = 40.0  # minimum stature in pixels for cloth patterns
_FACE_FROM = 50.0  # minimum stature in pixels for faces

_FOREIGN = 255  # the material of pixels that do not belong to the person


@dataclass(frozen=True, eq=False)
class Canvas:
    """An image (RGB) and its id buffer: ``(person + 1) << PART_BITS | part``, `NOBODY` or `OBJECT`."""

    image: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.uint16]

    @classmethod
    def on(cls, background: npt.NDArray[np.uint8]) -> Canvas:
        """A canvas with ``background`` and no people."""
        return cls(background, np.zeros(background.shape[:2], np.uint16))


def paint_person(canvas: Canvas, shapes: list[Shape], bodies: Bodies, outfits: Outfits, person: int) -> None:
    """Paint one person's parts from back to front, then the folds and patterns of the clothes."""
    stature = float(bodies.stature[person])
    depths = np.array([shape.depth for shape in shapes]) - bodies.points[person, INDEX["pelvis"], 2]
    tones = np.clip(0.98 + 0.9 * depths / stature, 0.72, 1.06)
    plain = outfits.colours[person, [shape.part for shape in shapes]]
    shaded = np.minimum(plain[:, None] * (tones[:, None] * SHADES)[..., None], 255).tolist()
    for shape, colours in zip(shapes, shaded, strict=True):
        identity = (person + 1) << PART_BITS | shape.part
        cv2.fillConvexPoly(canvas.ids, shape.polygons[0], identity, cv2.LINE_8, SHIFT)
        cv2.fillConvexPoly(canvas.image, shape.polygons[0], colours[0], cv2.LINE_AA, SHIFT)
        for polygon, step in zip(shape.polygons[1:], shape.steps[1:], strict=True):
            cv2.fillConvexPoly(canvas.image, polygon, colours[step], cv2.LINE_8, SHIFT)
        if shape.part == PART["face"]:
            _paint_face(canvas.image, bodies, outfits, person)
    if stature >= _TEXTURED_FROM:
        _weave(canvas, shapes, bodies, outfits, person)


# Strokes and dots of a face in units of the head's radii (cf. HEAD_POINTS): eyes, brows, nose, mouth.
_EYE, _BROW = np.array([0.42, -0.1, 0.88]), np.array([[0.2, -0.38, 0.9], [0.62, -0.38, 0.7]])
_MIRROR = np.array([-1.0, 1.0, 1.0])
_FACE_LINES = np.array(
    [
        [_EYE, _EYE * _MIRROR],
        _BROW,
        _BROW * _MIRROR,
        [[0.0, -0.1, 1.0], [0.0, 0.2, 1.1]],
        [[-0.14, 0.27, 0.98], [0.14, 0.27, 0.98]],
        [[-0.27, 0.56, 0.78], [0.27, 0.56, 0.78]],
    ]
)
_BROW_WIDTH, _NOSE_WIDTH, _NOSTRIL_WIDTH, _MOUTH_WIDTH = 0.004, 0.012, 0.006, 0.009
_BLACK = (30.0, 30.0, 34.0)


def _paint_face(image: npt.NDArray[np.uint8], bodies: Bodies, outfits: Outfits, person: int) -> None:
    """Eyes, brows, nose and mouth, where the head's surface faces the viewer."""
    size = float(bodies.stature[person] * bodies.head_size[person])
    if size < _FACE_FROM:
        return
    # End points of all strokes in the image, and the z component of their normals.
    rotation = bodies.head[person]
    turned = (_FACE_LINES * HEAD_RADII) @ rotation.T
    at = to_fixed_point(bodies.points[person, INDEX["head_centre"], :2] + size * turned[..., :2]).tolist()
    facing = ((_FACE_LINES / HEAD_RADII) @ rotation[2] * 0.05).tolist()
    skin = outfits.colours[person, PART["face"]].astype(np.float64)
    brow = outfits.colours[person, PART["head"]] * 0.8
    strokes = (
        *((i, _BROW_WIDTH, brow) for i in (1, 2)),
        (3, _NOSE_WIDTH, np.minimum(skin * 1.05, 255)),
        (4, _NOSTRIL_WIDTH, skin * 0.66),
        (5, _MOUTH_WIDTH, skin * (0.78, 0.5, 0.5)),
    )
    # Paint what faces the viewer: eyes, strokes, and the bridge of the glasses.
    for eye, towards in zip(at[0], facing[0], strict=True):
        if towards > 0.08:
            _paint_eye(image, eye, size, towards, skin, bool(outfits.glasses[person]))
    for line, width, colour in strokes:
        if min(facing[line]) > 0.05:
            thickness = max(1, round(width * size))
            cv2.line(image, at[line][0], at[line][1], colour.tolist(), thickness, cv2.LINE_AA, SHIFT)
    if outfits.glasses[person] and min(facing[0]) > 0.08:
        cv2.line(image, at[0][0], at[0][1], _BLACK, max(1, round(0.004 * size)), cv2.LINE_AA, SHIFT)


def _paint_eye(
    image: npt.NDArray[np.uint8],
    at: list[int],
    size: float,
    facing: float,
    skin: npt.NDArray[np.float64],
    glasses: bool,
) -> None:
    white = np.minimum(skin * 0.3 + 165, 255).tolist()
    for radius, colour in ((0.015, _BLACK),) if glasses else ((0.0095, white), (0.0055, (38.0, 26.0, 22.0))):
        wide, high = (round(radius * size * (1 << SHIFT) * part) for part in (min(1.0, facing + 0.25), 0.8))
        cv2.ellipse(image, at, (wide, high), 0.0, 0.0, 360.0, colour, -1, cv2.LINE_AA, SHIFT)


def _weave(canvas: Canvas, shapes: list[Shape], bodies: Bodies, outfits: Outfits, person: int) -> None:
    """Multiply the person's pixels by the pattern of their garment or else, except on skin, by folds."""
    # The region that contains the person.
    height, width = canvas.ids.shape
    corners = np.concatenate([shape.polygons[0] for shape in shapes]) >> SHIFT
    left, top = np.maximum(corners.min(axis=0), 0).tolist()
    right, bottom = np.minimum(corners.max(axis=0) + 2, (width, height)).tolist()
    if left >= right or top >= bottom:
        return
    # The material of each of its pixels (h w).
    table = np.full((len(bodies) + 1) << PART_BITS, _FOREIGN, np.uint8)
    first = (person + 1) << PART_BITS
    table[first : first + len(MATERIALS)] = MATERIALS
    material = table[canvas.ids[top:bottom, left:right]]
    region = canvas.image[top:bottom, left:right]
    # Factors (h w 3): folds, replaced by 1 on skin and by the pattern on patterned garments.
    frame = _cloth_frame(bodies, person, (left, top))
    size = (right - left, bottom - top)
    start = int(37 * bodies.stature[person])  # a different position for each person
    factors = cropped(texture_bank().folds, (start, start // 7), size[::-1]).copy()
    cv2.copyTo(np.full_like(factors, _BRIGHTEST), _mask(material == SKIN), factors)
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
    cv2.copyTo(lit, _mask(material != _FOREIGN), region)


def _mask(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.asarray(chosen.view(np.uint8))


def _cloth_frame(bodies: Bodies, person: int, corner: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Matrix from pixels of a region to statures across and along the trunk."""
    neck, pelvis = (bodies.points[person, INDEX[name], :2] for name in ("neck", "pelvis"))
    down = (pelvis - neck) / max(float(np.hypot(*(pelvis - neck))), 1e-6)
    linear = np.array([[down[1], -down[0]], [down[0], down[1]]]) / float(bodies.stature[person])
    return np.concatenate([linear, (linear @ (np.array(corner) - neck))[:, None]], axis=1)


def _tiled(
    tile: npt.NDArray[np.uint8], frame: npt.NDArray[np.float64], period: float, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """A repeating tile with a period of ``period`` statures, warped to a region of ``size`` (w, h)."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(tile, frame * (TILE / period), size, flags=flags, borderMode=cv2.BORDER_WRAP)
    return np.asarray(laid, dtype=np.uint8)


def _dye(outfits: Outfits, person: int, which: int) -> npt.NDArray[np.uint8]:
    """Lookup table from a pattern's grey values to factors (times 64) on the garment's first colour."""
    part = PART["chest"] if which == 0 else PART["pelvis"]
    first, second = outfits.colours[person, part].astype(np.float64), outfits.second[person, which]
    share = np.linspace(0.0, 1.0, 256)[:, None, None]
    ratio = 1.0 + share * (second / np.maximum(first, 20.0) - 1.0)
    return np.asarray(np.clip(ratio * _BRIGHTEST, 0, 255), dtype=np.uint8)


def soft_shadow(image: npt.NDArray[np.uint8], centre: tuple[float, float], axes: tuple[float, float]) -> None:
    """Darken a soft-edged ellipse, as the shadow under a person's feet."""
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
