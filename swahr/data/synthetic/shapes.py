"""The outlines of a person's parts: tapered limbs here, hulls of trunk and head, each in shading steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.data.synthetic.appearance import PART, Outfits
from swahr.data.synthetic.body import INDEX, Bodies
from swahr.data.synthetic.hulls import Hull, head_hulls, trunk_hulls

SHIFT = 4  # OpenCV draws with this many fractional bits
_ARC = np.linspace(0.0, 1.0, 7)
_SHRINK = np.array([1.0, 0.95, 0.87, 0.76, 0.62, 0.44, 0.24])
SHADES = 0.7 + 0.38 * np.sqrt(1.0 - _SHRINK**2)  # a matt cylinder lit from the viewer's side
_TOWARDS_LIGHT = 0.42 * (1.0 - _SHRINK)
_EVERY, _SECOND, _TWO = slice(None), slice(None, None, 2), slice(0, 4, 3)  # steps that a part's size shows
_STEPS = list(range(len(_SHRINK)))
_MIDDLING, _LARGE = 2.5, 12.0  # radii in pixels
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
_NECK_RADIUS, _NECK_BIAS = 0.027, -0.045
_PART = [PART[f"{side}_{row[0]}"] for side, *row in _ROWS] + [PART["neck"]]
_FROM = [INDEX[f"{side}_{row[1]}"] for side, *row in _ROWS] + [INDEX["neck"]]
_TO = [INDEX[f"{side}_{row[2]}"] for side, *row in _ROWS] + [INDEX["head_centre"]]
_RADII = np.array([row[3:5] for _, *row in _ROWS] + [[_NECK_RADIUS, _NECK_RADIUS]])
_COVER = [row[5] for _, *row in _ROWS] + [None]
_BIAS = np.array([row[6] for _, *row in _ROWS] + [_NECK_BIAS])


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
    hulls = [*trunk_hulls(bodies, outfits), *head_hulls(bodies, outfits)]
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
    # A sleeve lies over its arm however much of it points to the viewer, so both go by the whole bone.
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
    """Keep as many shading steps as a part of this radius (pixels) can show."""
    kept = _TWO if radius < _MIDDLING else _SECOND if radius < _LARGE else _EVERY
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

    Inner outlines reach as far along the axis as the outermost, so that the limbs of a chain merge; ``flat``
    (p, n) squashes the far cap along the axis.
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


def _hull_shapes(hulls: list[Hull], light: np.ndarray) -> list[Shape]:
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
