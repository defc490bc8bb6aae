"""Outlines of a person's parts in several shades: tapered limbs, and convex hulls of trunk and head."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.synthetic.appearance import PART, Outfits
from swahr.synthetic.body import HEAD_RADII, INDEX, Bodies

SHIFT = 4  # OpenCV draws with this many fractional bits
_ARC = np.linspace(0.0, 1.0, 7)
_SHRINK = np.array([1.0, 0.95, 0.87, 0.76, 0.62, 0.44, 0.24])
SHADES = 0.7 + 0.38 * np.sqrt(1.0 - _SHRINK**2)  # of a matt cylinder lit from the viewer's direction
_TOWARDS_LIGHT = 0.42 * (1.0 - _SHRINK)
_EVERY, _SECOND, _TWO = slice(None), slice(None, None, 2), slice(0, 4, 3)  # shading steps of a part
_STEPS = list(range(len(_SHRINK)))
_MEDIUM, _LARGE = 2.5, 12.0  # radii in pixels
_HEM = 0.3  # sleeves and trouser legs end almost straight

Polygon = npt.NDArray[np.int32]

# (part, from, to, radius at either end, covered fraction of the bone, depth bias), lengths in statures
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
_NECK_RADIUS, _NECK_BIAS = 0.027, -0.045
_PART = [PART[f"{side}_{row[0]}"] for side, *row in _ROWS] + [PART["neck"]]
_FROM = [INDEX[f"{side}_{row[1]}"] for side, *row in _ROWS] + [INDEX["neck"]]
_TO = [INDEX[f"{side}_{row[2]}"] for side, *row in _ROWS] + [INDEX["head_centre"]]
_RADII = np.array([row[3:5] for _, *row in _ROWS] + [[_NECK_RADIUS, _NECK_RADIUS]])
_COVER = [row[5] for _, *row in _ROWS] + [None]
_BIAS = np.array([row[6] for _, *row in _ROWS] + [_NECK_BIAS])

_ANGLES = np.arange(14) * np.pi / 7
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_HEAD_BIAS = 0.034
_SKIRT_BIAS, _PELVIS_BIAS = 0.012, -0.01


@dataclass(frozen=True, eq=False)
class Shape:
    """One part of a person for drawing. Frame: image.

    Attributes:
        part: index among `PARTS`.
        polygons: nested outlines ``(levels, points, 2)``, outermost first, in OpenCV's fixed point.
        steps: index among `SHADES` of each outline.
        depth: in pixels, greater is nearer to the viewer.
    """

    part: int
    polygons: Polygon
    steps: list[int]
    depth: float


@dataclass(frozen=True, eq=False)
class _Hull:
    """A convex part of person ``person``, before shading. Frame: image.

    Attributes:
        part: index among `PARTS`.
        outline: corners of the convex polygon.
        depth: in pixels, greater is nearer to the viewer.
        radius: width of the shading, in pixels.
    """

    person: int
    part: int
    outline: Float64[np.ndarray, "n 2"]
    depth: float
    radius: float


def person_shapes(bodies: Bodies, outfits: Outfits, light: Float64[np.ndarray, " xy=2"]) -> list[list[Shape]]:
    """The parts of every person, from back to front.

    ``light`` is a vector towards the light source in the image; its length is at most 1.
    """
    shapes = _limb_shapes(bodies, outfits, light)
    hulls = [*_trunk_hulls(bodies, outfits), *_head_hulls(bodies, outfits)]
    for hull, shape in zip(hulls, _hull_shapes(hulls, light), strict=True):
        shapes[hull.person].append(shape)
    for own in shapes:
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
    # Sleeves and arms get their depth from the whole bone, so that the sleeve is in front in every view.
    depth = ((start[..., 2] + end[..., 2]) / 2 + bodies.stature[:, None] * _BIAS).tolist()
    end = start + cover[..., None] * (end - start)
    near, far = size * _RADII[:, 0], size * (_RADII[:, 0] + cover * (_RADII[:, 1] - _RADII[:, 0]))
    outlines = _capsules(start[..., :2], end[..., :2], near, far, light, np.where(cover < 1.0, _HEM, 1.0))
    radii, covers = near.tolist(), cover.tolist()
    return [
        [
            _shape(part, outlines[p, i], depth[p][i], radii[p][i])
            for i, part in enumerate(_PART)
            if covers[p][i] > 0
        ]
        for p in range(len(bodies))
    ]


def _shape(part: int, outlines: Polygon, depth: float, radius: float) -> Shape:
    """Keep the shading steps that are distinguishable at this radius (pixels)."""
    kept = _TWO if radius < _MEDIUM else _SECOND if radius < _LARGE else _EVERY
    return Shape(part, outlines[kept], _STEPS[kept], depth)


def _capsules(
    start: np.ndarray,
    end: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
    light: np.ndarray,
    flat: np.ndarray,
) -> Polygon:
    """Outlines (p, n, levels, points, 2) around two discs, shrunk towards the axis and moved to the light.

    Inner outlines are as long as the outermost one, so that the limbs of a chain merge; ``flat`` (p, n)
    flattens the far cap along the axis.
    """
    axis = end - start
    length = np.maximum(np.hypot(axis[..., 0], axis[..., 1]), 1e-6)
    ahead = axis / length[..., None]
    aside = np.stack([-ahead[..., 1], ahead[..., 0]], axis=-1)
    half = np.arccos(np.clip((near - far) / length, -1.0, 1.0))[..., None]
    shrink = _SHRINK[:, None]
    drift = (_TOWARDS_LIGHT[:, None] * light)[:, None]
    discs = []
    for centre, radius, angle, squash in (
        (end, far, half * (2 * _ARC - 1), flat),
        (start, near, half + 2 * (np.pi - half) * _ARC, np.ones_like(flat)),
    ):
        along, across = np.cos(angle)[:, :, None], np.sin(angle)[:, :, None] * shrink
        along = (along * shrink + np.where(along > 0, 1.0, -1.0) * (1.0 - shrink)) * squash[:, :, None, None]
        rim = along[..., None] * ahead[:, :, None, None] + across[..., None] * aside[:, :, None, None]
        discs.append(centre[:, :, None, None] + radius[:, :, None, None, None] * (rim + drift))
    return to_fixed_point(np.concatenate(discs, axis=-2))


def _hull_shapes(hulls: list[_Hull], light: np.ndarray) -> list[Shape]:
    """All hulls at once: shrunk about their centres and moved to the light."""
    lengths = [len(hull.outline) for hull in hulls]
    outlines = np.concatenate([hull.outline for hull in hulls])
    starts = np.cumsum([0, *lengths[:-1]])
    centres = np.repeat(np.add.reduceat(outlines, starts) / np.array(lengths)[:, None], lengths, axis=0)
    radii = np.repeat([hull.radius for hull in hulls], lengths)[:, None]
    nested = centres + (outlines - centres) * _SHRINK[:, None, None]
    fixed = to_fixed_point(nested + radii * (_TOWARDS_LIGHT[:, None] * light)[:, None])
    return [
        _shape(hull.part, fixed[:, first : first + length], hull.depth, hull.radius)
        for hull, first, length in zip(hulls, starts.tolist(), lengths, strict=True)
    ]


def _trunk_hulls(bodies: Bodies, outfits: Outfits) -> list[_Hull]:
    """Chest, pelvis and, if any, skirt of every person."""
    # Landmarks (p 1 3) and pairs of landmarks (p 2 3).
    thick = bodies.stature * bodies.girth
    neck, spine, pelvis = (bodies.points[:, [INDEX[name]]] for name in ("neck", "spine", "pelvis"))
    shoulders, hips, knees, ankles = (
        bodies.points[:, [INDEX[f"left_{name}"], INDEX[f"right_{name}"]]]
        for name in ("shoulder", "hip", "knee", "ankle")
    )
    # Pairs of points at the height of ribs, waist, hem of the chest's clothes, and hem of the skirt.
    ribs = 0.6 * neck + 0.4 * spine + 0.42 * (shoulders - shoulders.mean(axis=1, keepdims=True))
    waist = 0.8 * spine + 0.2 * pelvis + 0.62 * outfits.waist[:, None, None] * (hips - pelvis)
    hem = 0.4 * spine + 0.6 * pelvis + 0.75 * (hips - pelvis)
    low = outfits.skirt[:, None, None]
    legs = hips + low.clip(max=1.0) * (knees - hips) + (low - 1.0).clip(min=0.0) * (ankles - knees)
    legs = legs + 0.4 * low * (hips - pelvis)
    # Points (p n 2) whose convex hulls are the outlines, and depths (p).
    chest = _balls(thick, [(0.9 * shoulders + 0.1 * neck, 0.026), (ribs, 0.06), (waist, 0.05), (hem, 0.05)])
    seat = _balls(thick, [(waist, 0.044), (hips, 0.052)])
    skirt = _balls(thick, [(hips, 0.054), (legs, 0.05)])
    middle = ((neck + spine)[:, 0, 2] / 2).tolist()
    below = ((spine + pelvis)[:, 0, 2] / 2 + _PELVIS_BIAS * bodies.stature).tolist()
    fall = (np.maximum(hips, legs)[..., 2].max(axis=1) + _SKIRT_BIAS * bodies.stature).tolist()
    hulls = []
    for i, size in enumerate(thick.tolist()):
        hulls.append(_Hull(i, PART["chest"], _convex(chest[i]), middle[i], 0.026 * size))
        hulls.append(_Hull(i, PART["pelvis"], _convex(seat[i]), below[i], 0.044 * size))
        if outfits.skirt[i] > 0:
            hulls.append(_Hull(i, PART["skirt"], _convex(skirt[i]), fall[i], 0.054 * size))
    return hulls


def _balls(thick: np.ndarray, balls: list[tuple[np.ndarray, float]]) -> npt.NDArray[np.float32]:
    """Circles around all spheres of a part: (p, points, 2)."""
    rims = [
        centres[:, :, None, :2] + (thick * radius)[:, None, None, None] * _CIRCLE for centres, radius in balls
    ]
    return np.concatenate(rims, axis=1).reshape(len(thick), -1, 2).astype(np.float32)


def _convex(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.convexHull(points)[:, 0], dtype=np.float64)


def _cap(half_angle: float, tilt: float) -> npt.NDArray[np.float64]:
    """Unit vectors within ``half_angle`` of an axis, which is (0, 1, 0) at a tilt of 0 and (0, 0, 1) at 90.

    Angles are in degrees.
    """
    polar, turn = np.meshgrid(np.deg2rad(half_angle) * np.linspace(0.2, 1.0, 5), np.arange(20) * np.pi / 10)
    cap = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], axis=-1)
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    return np.asarray(cap.reshape(-1, 3) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]))


_FACES = {angle: _cap(angle, 70.0) for angle in range(60, 90, 2)}
_HAT = _cap(88.0, -168.0)


def _head_hulls(bodies: Bodies, outfits: Outfits) -> list[_Hull]:
    """Skull, face, ears, hat and long hair of every person, where they face the viewer."""
    size = bodies.stature * bodies.head_size
    across = bodies.head[:, :2] * (HEAD_RADII * size[:, None])[:, None]
    spread = np.linalg.cholesky(across @ across.swapaxes(1, 2) + 1e-9 * np.eye(2))
    centre = bodies.points[:, INDEX["head_centre"]]
    skull = centre[:, None, :2] + 1.03 * _CIRCLE @ spread.swapaxes(1, 2)
    front = (centre[:, 2] + _HEAD_BIAS * bodies.stature).tolist()
    hulls = []
    for i, stature in enumerate(bodies.stature.tolist()):
        radius = 0.05 * float(size[i])
        hulls.append(_Hull(i, PART["head"], skull[i], front[i], radius))
        face = _FACES[int(outfits.hairline[i]) // 2 * 2]
        caps = [(PART["face"], face, 1.0, 0.002)]
        if outfits.hat[i]:
            caps.append((PART["hat"], _HAT, 1.1, 0.006))
        for part, directions, swell, bias in caps:
            seen = directions[directions @ bodies.head[i, 2] > -0.02]
            if len(seen) >= 8:
                outline = centre[i, :2] + swell * seen @ across[i].T
                depth = front[i] + bias * stature
                hulls.append(_Hull(i, part, _convex(outline.astype(np.float32)), depth, radius))
        hair = outfits.hair[i] > 0
        hulls += [_hanging_hair(bodies, outfits, i)] if hair else _ears(bodies, i, front[i], float(size[i]))
    return hulls


def _ears(bodies: Bodies, person: int, front: float, size: float) -> list[_Hull]:
    centre, stature = bodies.points[person, INDEX["head_centre"], 2], float(bodies.stature[person])
    hulls = []
    for name in ("left_ear", "right_ear"):
        ear = bodies.points[person, INDEX[name]]
        bias = 0.003 if ear[2] > centre - 0.3 * HEAD_RADII[0] * size else -0.003
        outline = ear[:2] + 0.012 * size * _CIRCLE * (0.8, 1.25)
        hulls.append(_Hull(person, PART[name], outline, front + bias * stature, 0.012 * size))
    return hulls


def _hanging_hair(bodies: Bodies, outfits: Outfits, person: int) -> _Hull:
    """Long hair along the trunk, behind the trunk if the person faces the viewer."""
    stature, facing = float(bodies.stature[person]), bodies.head[person, :, 2]
    size = stature * float(bodies.head_size[person])
    root = bodies.points[person, INDEX["head_centre"]] - 0.02 * size * facing
    down = bodies.points[person, INDEX["spine"]] - bodies.points[person, INDEX["neck"]]
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    tip = root + float(outfits.hair[person]) * stature * down - 0.03 * size * facing
    rims = np.concatenate([root[:2] + 0.05 * size * _CIRCLE, tip[:2] + 0.046 * size * _CIRCLE])
    depth = float(root[2]) - stature * (0.005 + 0.075 * float(facing[2]))
    return _Hull(person, PART["hair"], _convex(rims.astype(np.float32)), depth, 0.05 * size)
