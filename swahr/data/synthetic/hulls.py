"""Trunk and head as convex outlines: hulls of spheres, an ellipsoid, and caps on its surface."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.data.synthetic.appearance import PART, Outfits
from swahr.data.synthetic.body import HEAD_RADII, INDEX, Bodies

_TURN = np.arange(14) * np.pi / 7
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_HEAD_BIAS = 0.034
_SKIRT_BIAS, _PELVIS_BIAS = 0.012, -0.01

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hull:
    """A convex part of somebody. Frame: image.

    Attributes:
        person, part: whose, and index among `PARTS`.
        outline: corners of the convex polygon.
        depth: greater is nearer to the viewer, in pixels.
        radius: how far shading reaches in, in pixels.
    """

    person: int
    part: int
    outline: Float64[np.ndarray, "n 2"]
    depth: float
    radius: float


def trunk_hulls(bodies: Bodies, outfits: Outfits) -> list[Hull]:
    """Chest, pelvis and, where worn, skirt of every person."""
    thick = bodies.stature * bodies.girth
    neck, spine, pelvis = (bodies.points[:, [INDEX[name]]] for name in ("neck", "spine", "pelvis"))
    shoulders, hips, knees, ankles = (
        bodies.points[:, [INDEX[f"left_{name}"], INDEX[f"right_{name}"]]]
        for name in ("shoulder", "hip", "knee", "ankle")
    )
    ribs = 0.6 * neck + 0.4 * spine + 0.42 * (shoulders - shoulders.mean(axis=1, keepdims=True))
    waist = 0.8 * spine + 0.2 * pelvis + 0.62 * outfits.waist[:, None, None] * (hips - pelvis)
    hem = 0.4 * spine + 0.6 * pelvis + 0.75 * (hips - pelvis)
    low = outfits.skirt[:, None, None]
    legs = hips + low.clip(max=1.0) * (knees - hips) + (low - 1.0).clip(min=0.0) * (ankles - knees)
    legs = legs + 0.4 * low * (hips - pelvis)
    chest = _balls(thick, [(0.9 * shoulders + 0.1 * neck, 0.026), (ribs, 0.06), (waist, 0.05), (hem, 0.05)])
    seat = _balls(thick, [(waist, 0.044), (hips, 0.052)])
    skirt = _balls(thick, [(hips, 0.054), (legs, 0.05)])
    middle = ((neck + spine)[:, 0, 2] / 2).tolist()
    below = ((spine + pelvis)[:, 0, 2] / 2 + _PELVIS_BIAS * bodies.stature).tolist()
    fall = (np.maximum(hips, legs)[..., 2].max(axis=1) + _SKIRT_BIAS * bodies.stature).tolist()
    hulls = []
    for i, size in enumerate(thick.tolist()):
        hulls.append(Hull(i, PART["chest"], _convex(chest[i]), middle[i], 0.026 * size))
        hulls.append(Hull(i, PART["pelvis"], _convex(seat[i]), below[i], 0.044 * size))
        if outfits.skirt[i] > 0:
            hulls.append(Hull(i, PART["skirt"], _convex(skirt[i]), fall[i], 0.054 * size))
    return hulls


def _balls(thick: Points, balls: list[tuple[Points, float]]) -> npt.NDArray[np.float32]:
    """The rims of all spheres of a part: (p, points, 2)."""
    rims = [
        centres[:, :, None, :2] + (thick * radius)[:, None, None, None] * _CIRCLE for centres, radius in balls
    ]
    return np.concatenate(rims, axis=1).reshape(len(thick), -1, 2).astype(np.float32)


def _convex(points: npt.NDArray[np.float32]) -> Points:
    return np.asarray(cv2.convexHull(points)[:, 0], dtype=np.float64)


def _cap(half_angle: float, tilt: float) -> Points:
    """Directions within ``half_angle`` of the face's axis, tilted from straight down to the front.

    All angles in degrees; the axis is (0, 1, 0), downwards, at a tilt of 0 and (0, 0, 1) at 90.
    """
    polar, turn = np.meshgrid(np.deg2rad(half_angle) * np.linspace(0.2, 1.0, 5), np.arange(20) * np.pi / 10)
    cap = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], axis=-1)
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    return np.asarray(cap.reshape(-1, 3) @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]))


_FACES = {angle: _cap(angle, 70.0) for angle in range(60, 90, 2)}
_HAT = _cap(88.0, -168.0)


def head_hulls(bodies: Bodies, outfits: Outfits) -> list[Hull]:
    """Skull, face, ears, hat and hanging hair of every person, as far as they can be seen."""
    size = bodies.stature * bodies.head_size
    across = bodies.head[:, :2] * (HEAD_RADII * size[:, None])[:, None]
    spread = np.linalg.cholesky(across @ across.swapaxes(1, 2) + 1e-9 * np.eye(2))
    centre = bodies.points[:, INDEX["head_centre"]]
    skull = centre[:, None, :2] + 1.03 * _CIRCLE @ spread.swapaxes(1, 2)
    front = (centre[:, 2] + _HEAD_BIAS * bodies.stature).tolist()
    hulls = []
    for i, stature in enumerate(bodies.stature.tolist()):
        radius = 0.05 * float(size[i])
        hulls.append(Hull(i, PART["head"], skull[i], front[i], radius))
        face = _FACES[int(outfits.hairline[i]) // 2 * 2]
        caps = [(PART["face"], face, 1.0, 0.002)]
        if outfits.hat[i]:
            caps.append((PART["hat"], _HAT, 1.1, 0.006))
        for part, directions, swell, bias in caps:
            seen = directions[directions @ bodies.head[i, 2] > -0.02]
            if len(seen) >= 8:
                outline = centre[i, :2] + swell * seen @ across[i].T
                depth = front[i] + bias * stature
                hulls.append(Hull(i, part, _convex(outline.astype(np.float32)), depth, radius))
        hair = outfits.hair[i] > 0
        hulls += [_hanging_hair(bodies, outfits, i)] if hair else _ears(bodies, i, front[i], float(size[i]))
    return hulls


def _ears(bodies: Bodies, person: int, front: float, size: float) -> list[Hull]:
    centre, stature = bodies.points[person, INDEX["head_centre"], 2], float(bodies.stature[person])
    hulls = []
    for name in ("left_ear", "right_ear"):
        ear = bodies.points[person, INDEX[name]]
        bias = 0.003 if ear[2] > centre - 0.3 * HEAD_RADII[0] * size else -0.003
        outline = ear[:2] + 0.012 * size * _CIRCLE * (0.8, 1.25)
        hulls.append(Hull(person, PART[name], outline, front + bias * stature, 0.012 * size))
    return hulls


def _hanging_hair(bodies: Bodies, outfits: Outfits, person: int) -> Hull:
    """Hair falls from the back of the head along the trunk: behind it for who faces the viewer."""
    stature, facing = float(bodies.stature[person]), bodies.head[person, :, 2]
    size = stature * float(bodies.head_size[person])
    root = bodies.points[person, INDEX["head_centre"]] - 0.02 * size * facing
    down = bodies.points[person, INDEX["spine"]] - bodies.points[person, INDEX["neck"]]
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    tip = root + float(outfits.hair[person]) * stature * down - 0.03 * size * facing
    rims = np.concatenate([root[:2] + 0.05 * size * _CIRCLE, tip[:2] + 0.046 * size * _CIRCLE])
    depth = float(root[2]) - stature * (0.005 + 0.075 * float(facing[2]))
    return Hull(person, PART["hair"], _convex(rims.astype(np.float32)), depth, 0.05 * size)
