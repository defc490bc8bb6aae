"""The outlines of a person's parts: tapered limbs and hulls of spheres, each in a few shading steps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.data.synthetic.appearance import PART, Outfits
from swahr.data.synthetic.body import HEAD_RADII, INDEX, Bodies

SHIFT = 4  # OpenCV draws with this many fractional bits
_ARC = np.linspace(0.0, 1.0, 7)
_CIRCLE = np.stack([np.cos(np.arange(14) * np.pi / 7), np.sin(np.arange(14) * np.pi / 7)], axis=1)
_SHRINK = np.array([1.0, 0.95, 0.87, 0.76, 0.62, 0.44, 0.24])
SHADES = 0.7 + 0.38 * np.sqrt(1.0 - _SHRINK**2)  # a matt cylinder lit from the viewer's side
_TOWARDS_LIGHT = 0.42 * (1.0 - _SHRINK)
_FEW, _SOME, _ALL = ([0, 3], [0, 2, 4, 6], list(range(len(_SHRINK))))  # steps for parts of 1, 3 or 8 pixels
_HEM = 0.3  # sleeves and trouser legs end almost straight

Polygon = npt.NDArray[np.int32]

# (part, from, to, radius there and there, how far along the bone, depth bias), lengths in statures
_LIMB_TABLE = (
    ("upper_arm", "shoulder", "elbow", 0.031, 0.023, None, 0.022),
    ("sleeve", "shoulder", "elbow", 0.036, 0.031, "sleeve", 0.024),
    ("forearm", "elbow", "wrist", 0.024, 0.016, None, 0.024),
    ("cuff", "elbow", "wrist", 0.030, 0.024, "cuff", 0.026),
    ("hand", "wrist", "hand", 0.018, 0.014, None, 0.025),
    ("thigh", "hip", "knee", 0.049, 0.032, None, -0.006),
    ("breeches", "hip", "knee", 0.055, 0.042, "breeches", -0.004),
    ("shin", "knee", "ankle", 0.035, 0.020, None, -0.006),
    ("trouser", "knee", "ankle", 0.041, 0.034, "trouser", -0.004),
    ("foot", "ankle", "toe", 0.024, 0.017, None, 0.0),
)
_ROWS = tuple((side, *row) for side in ("left", "right") for row in _LIMB_TABLE)
_LIMB_PART = [PART[f"{side}_{row[0]}"] for side, *row in _ROWS]
_FROM = [INDEX[f"{side}_{row[1]}"] for side, *row in _ROWS]
_TO = [INDEX[f"{side}_{row[2]}"] for side, *row in _ROWS]
_RADII = np.array([row[3:5] for _, *row in _ROWS])
_COVER = [row[5] for _, *row in _ROWS]
_BIAS = np.array([row[6] for _, *row in _ROWS])
_HULL_BIAS = {"chest": 0.0, "pelvis": -0.01, "skirt": 0.03}
_HEAD_BIAS = 0.034


@dataclass(frozen=True, eq=False)
class Shape:
    """One part as it is drawn.

    Attributes:
        part: index among `PARTS`.
        polygons: nested outlines ``(levels, points, 2)``, outermost first, in OpenCV's fixed point.
        steps: which of `SHADES` each has.
        depth: greater is nearer to the viewer, in pixels.
    """

    part: int
    polygons: Polygon
    steps: list[int]
    depth: float


def person_shapes(bodies: Bodies, outfits: Outfits, light: Float64[np.ndarray, " xy=2"]) -> list[list[Shape]]:
    """The parts of every person from back to front.

    ``light`` is the direction in the image where the light comes from (a unit vector or shorter).
    """
    shapes = _limb_shapes(bodies, outfits, light)
    for person, own in enumerate(shapes):
        own += _trunk_shapes(bodies, outfits, person, light)
        own += _head_shapes(bodies, outfits, person, light)
        own.sort(key=lambda shape: shape.depth)
    return shapes


def to_fixed_point(points: npt.NDArray[np.floating]) -> Polygon:
    """Continuous coordinates as OpenCV's fixed-point pixel indices."""
    return np.asarray(np.rint((points - 0.5) * (1 << SHIFT)), dtype=np.int32)


def _limb_shapes(bodies: Bodies, outfits: Outfits, light: np.ndarray) -> list[list[Shape]]:
    cover = np.stack(
        [np.ones(len(bodies)) if name is None else getattr(outfits, name) for name in _COVER], axis=1
    )
    size = (bodies.stature * bodies.girth)[:, None]
    start, end = bodies.points[:, _FROM], bodies.points[:, _TO]
    end = start + cover[..., None] * (end - start)
    near, far = size * _RADII[:, 0], size * (_RADII[:, 0] + cover * (_RADII[:, 1] - _RADII[:, 0]))
    flat = np.where(cover < 1.0, _HEM, 1.0)
    outlines = _capsules(start[..., :2], end[..., :2], near, far, light, flat)
    depth = (start[..., 2] + end[..., 2]) / 2 + bodies.stature[:, None] * _BIAS
    return [
        [
            _shape(part, outlines[p, i], float(depth[p, i]), float(near[p, i]))
            for i, part in enumerate(_LIMB_PART)
            if cover[p, i] > 0
        ]
        for p in range(len(bodies))
    ]


def _shape(part: int, outlines: Polygon, depth: float, radius: float) -> Shape:
    """Keep as many shading steps as a part of this radius (pixels) can show."""
    steps = _FEW if radius < 2.5 else _SOME if radius < 8 else _ALL
    return Shape(part, outlines[steps], steps, depth)


def _capsules(
    start: np.ndarray, end: np.ndarray, near: np.ndarray, far: np.ndarray, light: np.ndarray, flat: np.ndarray
) -> Polygon:
    """Outlines (p, n, levels, points, 2) around two discs, shrunk towards the axis and moved to the light.

    Inner outlines reach as far along the axis as the outermost, so that the limbs of a chain merge; ``flat``
    (p, n) squashes the far cap along the axis.
    """
    axis = end - start
    length = np.maximum(np.hypot(axis[..., 0], axis[..., 1]), 1e-6)
    ahead = axis / length[..., None]
    aside = np.stack([-ahead[..., 1], ahead[..., 0]], axis=-1)
    half = np.arccos(np.clip((near - far) / length, -1.0, 1.0))[..., None]
    ends = ((end, far, half * (2 * _ARC - 1), flat), (start, near, half + 2 * (np.pi - half) * _ARC, None))
    discs = []
    for centre, radius, angle, squash in ends:
        along, across = np.cos(angle)[:, :, None], np.sin(angle)[:, :, None] * _SHRINK[:, None]
        reach = np.where(along > 0, 1.0, -1.0) * (1.0 - _SHRINK[:, None])
        along = along * _SHRINK[:, None] + reach
        if squash is not None:
            along = along * squash[:, :, None, None]
        rim = along[..., None] * ahead[:, :, None, None] + across[..., None] * aside[:, :, None, None]
        rim = rim + (_TOWARDS_LIGHT[:, None] * light)[:, None]
        discs.append(centre[:, :, None, None] + radius[:, :, None, None, None] * rim)
    return to_fixed_point(np.concatenate(discs, axis=-2))


def _hull(
    part: int, circles: npt.NDArray[np.float64], depth: float, light: np.ndarray, radius: float
) -> Shape:
    """The convex hull of points, shrunk about its centre and moved to the light."""
    outline = cv2.convexHull(circles.reshape(-1, 2).astype(np.float32))[:, 0].astype(np.float64)
    centre = outline.mean(axis=0)
    nested = centre + (outline - centre) * _SHRINK[:, None, None]
    nested = nested + radius * (_TOWARDS_LIGHT[:, None] * light)[:, None]
    return _shape(part, to_fixed_point(nested), depth, radius)


def _trunk_shapes(bodies: Bodies, outfits: Outfits, person: int, light: np.ndarray) -> list[Shape]:
    points, stature = bodies.points[person], float(bodies.stature[person])
    thick = stature * float(bodies.girth[person])
    neck, spine, pelvis = (points[INDEX[name]] for name in ("neck", "spine", "pelvis"))
    shoulders, hips, knees, ankles = (
        points[[INDEX[f"left_{name}"], INDEX[f"right_{name}"]]]
        for name in ("shoulder", "hip", "knee", "ankle")
    )
    ribs = 0.6 * neck + 0.4 * spine + 0.42 * (shoulders - shoulders.mean(axis=0))
    waist = 0.8 * spine + 0.2 * pelvis + 0.62 * float(outfits.waist[person]) * (hips - pelvis)
    hem = 0.4 * spine + 0.6 * pelvis + 0.75 * (hips - pelvis)
    chest_balls = [(shoulders * 0.9 + neck * 0.1, 0.026), (ribs, 0.06), (waist, 0.05), (hem, 0.05)]
    shapes = [
        _limb_like_neck(points, thick, light, stature),
        _balls("chest", chest_balls, thick, neck, spine, stature, light),
        _balls("pelvis", [(waist, 0.044), (hips, 0.052)], thick, spine, pelvis, stature, light),
    ]
    if outfits.skirt[person] > 0:
        low = float(outfits.skirt[person])
        legs = hips + min(low, 1.0) * (knees - hips) + max(low - 1.0, 0.0) * (ankles - knees)
        legs = legs + 0.4 * low * (hips - pelvis)
        shapes.append(
            _balls("skirt", [(hips, 0.054), (legs, 0.05)], thick, pelvis, legs.mean(axis=0), stature, light)
        )
    return shapes


def _limb_like_neck(points: np.ndarray, thick: float, light: np.ndarray, stature: float) -> Shape:
    ends = points[[INDEX["neck"], INDEX["head_centre"]]]
    radius = np.full((1, 1), 0.027 * thick)
    outline = _capsules(
        ends[None, None, 0, :2], ends[None, None, 1, :2], radius, radius, light, np.ones((1, 1))
    )
    return _shape(PART["neck"], outline[0, 0], float(ends[0, 2]) - 0.02 * stature, float(radius[0, 0]))


def _balls(
    name: str,
    balls: list[tuple[np.ndarray, float]],
    thick: float,
    top: np.ndarray,
    bottom: np.ndarray,
    stature: float,
    light: np.ndarray,
) -> Shape:
    circles = np.concatenate(
        [(centres[:, None, :2] + thick * radius * _CIRCLE).reshape(-1, 2) for centres, radius in balls]
    )
    depth = float(top[2] + bottom[2]) / 2 + _HULL_BIAS[name] * stature
    return _hull(PART[name], circles, depth, light, thick * balls[0][1])


def _cap(half_angle: float) -> npt.NDArray[np.float64]:
    """Directions of the head's surface within an angle (radians) of the y axis."""
    polar, turn = np.meshgrid(np.linspace(0.2, 1.0, 5) * half_angle, np.arange(20) * np.pi / 10)
    return np.stack(
        [np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], axis=-1
    ).reshape(-1, 3)


def _about_x(directions: np.ndarray, degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray(directions @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]))


def _cap_hull(
    part: int, bodies: Bodies, person: int, directions: np.ndarray, depth: float, light: np.ndarray
) -> list[Shape]:
    """The visible part of a cap of the head's ellipsoid, if there is any."""
    size = float(bodies.stature[person] * bodies.head_size[person])
    normal = directions @ bodies.head[person].T
    seen = directions[normal[:, 2] > -0.02]
    if len(seen) < 8:
        return []
    centre = bodies.points[person, INDEX["head_centre"], :2]
    return [
        _hull(
            part, centre + (seen * HEAD_RADII * size) @ bodies.head[person, :2].T, depth, light, 0.05 * size
        )
    ]


def _head_shapes(bodies: Bodies, outfits: Outfits, person: int, light: np.ndarray) -> list[Shape]:
    stature, rotation = float(bodies.stature[person]), bodies.head[person]
    size = stature * float(bodies.head_size[person])
    centre = bodies.points[person, INDEX["head_centre"]]
    front = float(centre[2]) + _HEAD_BIAS * stature
    across = rotation[:2] * HEAD_RADII * size
    outline = np.linalg.cholesky(across @ across.T + 1e-9 * np.eye(2))
    shapes = [_hull(PART["head"], centre[:2] + 1.03 * _CIRCLE @ outline.T, front, light, 0.05 * size)]
    face = _about_x(_cap(np.deg2rad(float(outfits.hairline[person]))), 70.0)
    shapes += _cap_hull(PART["face"], bodies, person, face, front + 0.002 * stature, light)
    for name in ("left_ear", "right_ear"):
        ear = bodies.points[person, INDEX[name]]
        before = 0.003 if ear[2] > centre[2] - 0.3 * HEAD_RADII[0] * size else -0.003
        if outfits.hair[person] == 0:
            circle = ear[:2] + 0.012 * size * _CIRCLE * (0.8, 1.25)
            shapes.append(_hull(PART[name], circle, front + before * stature, light, 0.012 * size))
    if outfits.hat[person]:
        brim = _about_x(_cap(np.deg2rad(88.0)), -168.0) * 1.1
        shapes += _cap_hull(PART["hat"], bodies, person, brim, front + 0.006 * stature, light)
    if outfits.hair[person] > 0:
        shapes.append(_hanging_hair(bodies, outfits, person, light))
    return shapes


def _hanging_hair(bodies: Bodies, outfits: Outfits, person: int, light: np.ndarray) -> Shape:
    stature, rotation = float(bodies.stature[person]), bodies.head[person]
    size = stature * float(bodies.head_size[person])
    root = bodies.points[person, INDEX["head_centre"]] - 0.02 * size * rotation[:, 2]
    torso_down = bodies.points[person, INDEX["spine"]] - bodies.points[person, INDEX["neck"]]
    torso_down = torso_down / max(float(np.linalg.norm(torso_down)), 1e-6)
    tip = root + float(outfits.hair[person]) * stature * torso_down
    tip = tip - 0.03 * size * rotation[:, 2]
    circles = np.concatenate([root[:2] + 0.05 * size * _CIRCLE, tip[:2] + 0.046 * size * _CIRCLE])
    depth = float(root[2]) - stature * (0.005 + 0.075 * float(rotation[2, 2]))
    return _hull(PART["hair"], circles, depth, light, 0.05 * size)
