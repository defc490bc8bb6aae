"""People as articulated 3-D bodies: landmarks, bone lengths, joint limits, forward kinematics.

Frame: *camera*, in statures (a person standing upright is 1 tall) or, once placed, in pixels: x to the
right, y down, z towards the viewer; the projection is orthographic, so (x, y) are image coordinates. A body
at rest faces the viewer with its arms down, so that its left side lies on the image's right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

SIDES = ("left", "right")
_PAIRED = ("eye", "ear", "shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "toe")
LANDMARKS = (
    *("nose", "chin", "head", "head_centre", "neck", "thorax", "spine", "pelvis"),
    *(f"{side}_{part}" for part in _PAIRED for side in SIDES),
)
"""Every point of a body that a skeleton may name as a keypoint (``head`` is the top of the head)."""
INDEX: Mapping[str, int] = {name: i for i, name in enumerate(LANDMARKS)}

Limits = Float64[np.ndarray, "*n 2"]


def _limits(table: Sequence[Any]) -> Limits:
    return np.asarray(table, dtype=np.float64)


BONES: Mapping[str, float] = {
    "upper_arm": 0.165, "forearm": 0.145, "hand": 0.075, "thigh": 0.245, "shin": 0.245, "foot": 0.085,
    "waist": 0.115, "chest": 0.17, "neck": 0.105, "shoulder": 0.104, "hip": 0.056,
}  # fmt: skip
"""Bone lengths in statures; ``shoulder`` and ``hip`` are half widths, ``waist`` + ``chest`` the trunk."""

HEAD_RADII = np.array([0.043, 0.064, 0.054])
HEAD_POINTS: Mapping[str, tuple[float, float, float]] = {
    "nose": (0.0, 0.18, 1.12), "chin": (0.0, 0.94, 0.42), "head": (0.0, -1.0, 0.0),
    "left_eye": (0.42, -0.1, 0.88), "right_eye": (-0.42, -0.1, 0.88),
    "left_ear": (1.02, 0.06, -0.08), "right_ear": (-1.02, 0.06, -0.08),
}  # fmt: skip
"""Points of the head in units of its radii: x to the person's left, y down, z the way the face looks."""

# Odds of an activity and its limits in degrees. Arms: flexion (forwards), abduction (sideways), twist
# (negative turns the bent forearm inwards), elbow.
_ARMS: Mapping[str, tuple[float, Any]] = {
    "hanging": (0.34, ((-12, 18), (5, 20), (-50, 10), (4, 40))),
    "swinging": (0.16, ((-42, 48), (3, 16), (-35, 10), (15, 95))),
    "holding": (0.15, ((0, 50), (5, 25), (-60, -5), (60, 125))),
    "on_hip": (0.08, ((-30, -5), (35, 55), (-90, -65), (80, 110))),
    "raised": (0.12, ((120, 172), (0, 35), (-40, 40), (5, 85))),
    "sideways": (0.08, ((-5, 25), (55, 110), (-30, 90), (5, 90))),
    "reaching": (0.07, ((55, 105), (-10, 20), (-60, 30), (0, 60))),
}
# Legs: flexion, abduction, twist (positive turns the toes out), knee; one entry per leg, sides exchangeable.
_STRAIGHT = ((-6, 8), (1, 8), (0, 18), (0, 10))
_SEATED = ((70, 98), (4, 20), (-5, 15), (65, 110))
_LEGS: Mapping[str, tuple[float, Any]] = {
    "standing": (0.36, (_STRAIGHT, _STRAIGHT)),
    "contrapposto": (0.10, (_STRAIGHT, ((0, 15), (4, 14), (5, 30), (5, 28)))),
    "walking": (0.22, (((10, 32), (0, 6), (0, 10), (0, 22)), ((-26, -6), (0, 6), (0, 10), (6, 50)))),
    "running": (0.09, (((25, 75), (0, 6), (0, 8), (30, 95)), ((-30, -5), (0, 6), (0, 8), (15, 100)))),
    "astride": (0.06, (((-5, 15), (14, 32), (5, 30), (0, 20)), ((-5, 15), (14, 32), (5, 30), (0, 20)))),
    "sitting": (0.11, (_SEATED, _SEATED)),
    "kicking": (0.03, (((30, 95), (0, 20), (0, 15), (0, 60)), _STRAIGHT)),
    "crouching": (
        0.03,
        (((85, 118), (10, 28), (0, 25), (105, 138)), ((75, 118), (8, 28), (0, 25), (95, 138))),
    ),
}
_ARM_ODDS = np.array([odds for odds, _ in _ARMS.values()])
_ARM_LIMITS = _limits([limits for _, limits in _ARMS.values()])
_LEG_ODDS = np.array([odds for odds, _ in _LEGS.values()])
_LEG_LIMITS = _limits([limits for _, limits in _LEGS.values()])
_TRUNK = _limits(((-6, 16), (-8, 8), (-16, 16)))  # forward bend, sideways bend, twist of the chest
_HEAD = _limits(((-16, 28), (-11, 11), (-48, 48)))  # nod, tilt, turn
_UNUSUAL_TRUNK = _limits(((10, 75), (-25, 25), (-30, 30)))
_UNUSUAL_ARM = _limits(((-40, 172), (0, 120), (-90, 90), (0, 140)))
_UNUSUAL_LEG = _limits(((-25, 118), (0, 45), (-10, 35), (0, 138)))


@dataclass(frozen=True, eq=False)
class Bodies:
    """People ready to be drawn. Frame: camera (placed bodies: pixels of the image).

    Attributes:
        points: all `LANDMARKS`.
        head: rotation of each head (columns: the person's left, down, the way the face looks).
        stature: pixels (or 1) from sole to crown if the person stood upright.
        girth: thickness of trunk and limbs relative to an average adult.
        head_size: size of the head relative to an average adult's.
    """

    points: Float64[np.ndarray, "p l 3"]
    head: Float64[np.ndarray, "p 3 3"]
    stature: Float64[np.ndarray, " p"]
    girth: Float64[np.ndarray, " p"]
    head_size: Float64[np.ndarray, " p"]

    def __len__(self) -> int:
        """The number of people."""
        return len(self.points)

    def placed(self, stature: Float64[np.ndarray, " p"], offset: Float64[np.ndarray, "p 2"]) -> Bodies:
        """The bodies magnified to ``stature`` pixels and moved by ``offset`` (x, y) pixels."""
        points = self.points * stature[:, None, None]
        points[:, :, :2] += offset[:, None]
        return Bodies(points, self.head, stature, self.girth, self.head_size)


def sample_bodies(rng: np.random.Generator, count: int, unusual: float, facing: float = 0.5) -> Bodies:
    """Draw ``count`` people in natural poses, the pelvis at the origin, one stature tall.

    Joint angles are uniform within the limits of an activity (standing, walking, sitting, ...), arms and
    legs independently. ``unusual`` is the fraction of people with arbitrary limbs within the joints' limits,
    bent, lying or upside down; ``facing`` the fraction who face the viewer, give or take.
    """
    odd = rng.random(count) < unusual
    child = rng.random(count) < 0.12
    head_size = np.where(child, rng.uniform(1.2, 1.45, count), rng.uniform(0.96, 1.14, count))
    girth = rng.uniform(0.85, 1.25, count)
    angles = _sample_angles(rng, odd, facing)
    rotations = euler_rotations(angles)
    breadth = rng.uniform(0.9, 1.08, count)
    points, head = _forward_kinematics(rotations, breadth, head_size)
    return Bodies(points, head, np.ones(count), girth, head_size)


_ROOT, _LEAN, _CHEST, _NECK = 0, 1, 2, 3
_SHOULDER, _ELBOW, _HIP, _KNEE, _ANKLE = 4, 6, 8, 10, 12  # the left one; the right one follows
_NUM_JOINTS = 14


def _uniform(rng: np.random.Generator, limits: Limits) -> Float64[np.ndarray, "*n"]:
    return np.asarray(limits[..., 0] + (limits[..., 1] - limits[..., 0]) * rng.random(limits.shape[:-1]))


def _sample_angles(
    rng: np.random.Generator, odd: Bool[np.ndarray, " p"], facing: float
) -> Float64[np.ndarray, "p j 3"]:
    """Euler angles in radians about (z, x, y) for every joint, in the order of `euler_rotations`."""
    count = len(odd)
    angles = np.zeros((count, _NUM_JOINTS, 3))
    angles[:, _ROOT] = _sample_views(rng, odd, facing)
    trunk = _uniform(rng, np.where(odd[:, None, None], _UNUSUAL_TRUNK, _TRUNK))
    angles[:, _CHEST] = np.stack([trunk[:, 1], -trunk[:, 0], trunk[:, 2]], axis=1)
    head = _uniform(rng, np.broadcast_to(_HEAD, (count, 3, 2)))
    angles[:, _NECK] = np.stack([head[:, 1], -head[:, 0], head[:, 2]], axis=1)
    arms, legs = _sample_limbs(rng, odd)
    for side, sign in ((0, 1.0), (1, -1.0)):
        for limb, joint, hinge, way in ((arms, _SHOULDER, _ELBOW, 1.0), (legs, _HIP, _KNEE, -1.0)):
            flexion, abduction, twist, bend = limb[:, side].T
            angles[:, joint + side] = np.stack([-sign * abduction, flexion, sign * twist], axis=1)
            angles[:, hinge + side, 1] = way * bend
    lean = np.where(odd, rng.uniform(-10, 30, count), rng.uniform(-3, 7, count))
    angles[:, _LEAN, 1] = -lean
    angles[:, _ANKLE : _ANKLE + 2, 1] = rng.uniform(-25, 8, (count, 2))
    return np.deg2rad(angles)


def _sample_views(
    rng: np.random.Generator, odd: Bool[np.ndarray, " p"], facing: float
) -> Float64[np.ndarray, "p 3"]:
    """Roll in the image, camera elevation and yaw (0: facing the viewer), in degrees.

    Those who do not face the viewer stand sideways, turn their back, or are turned anyhow, in equal parts.
    """
    count = len(odd)
    kind = rng.random(count)
    front, side = rng.normal(0, 28, count), rng.normal(90, 18, count) * rng.choice([-1, 1], count)
    yaw = np.select(
        [kind < facing, kind < facing + (1 - facing) / 3, kind < facing + (1 - facing) * 2 / 3],
        [front, side, 180 + rng.normal(0, 28, count)],
        rng.uniform(-180, 180, count),
    )
    roll = rng.normal(0, 3, count)
    turned = odd & (rng.random(count) < 0.5)
    roll = np.where(turned, rng.choice([-90, 90, -75, 75, 180], count) + rng.normal(0, 15, count), roll)
    return np.stack([roll, -rng.uniform(-4, 16, count), yaw], axis=1)


def _sample_limbs(
    rng: np.random.Generator, odd: Bool[np.ndarray, " p"]
) -> tuple[Float64[np.ndarray, "p 2 4"], Float64[np.ndarray, "p 2 4"]]:
    """Angles of both arms and both legs; two arms in five do the same."""
    count = len(odd)
    activity = _choose(rng, _ARM_ODDS, (count, 2))
    activity[:, 1] = np.where(rng.random(count) < 0.4, activity[:, 0], activity[:, 1])
    arms = np.where(odd[:, None, None, None], _UNUSUAL_ARM, _ARM_LIMITS[activity])
    legs = _LEG_LIMITS[_choose(rng, _LEG_ODDS, (count,))]
    legs = np.where(rng.random((count, 1, 1, 1)) < 0.5, legs, legs[:, ::-1])
    legs = np.where(odd[:, None, None, None], _UNUSUAL_LEG, legs)
    return _uniform(rng, arms), _uniform(rng, legs)


def _choose(rng: np.random.Generator, odds: Float64[np.ndarray, " n"], shape: tuple[int, ...]) -> np.ndarray:
    edges = np.cumsum(odds)
    return np.asarray(np.searchsorted(edges, rng.random(shape) * edges[-1]))


def euler_rotations(angles: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3 3"]:
    """``Rz(a) @ Rx(b) @ Ry(c)`` for Euler angles (a, b, c) in radians."""
    (a, b, c), (sa, sb, sc) = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    rows = (
        (a * c - sa * sb * sc, -sa * b, a * sc + sa * sb * c),
        (sa * c + a * sb * sc, a * b, sa * sc - a * sb * c),
        (-b * sc, sb, b * c),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _forward_kinematics(
    rotations: Float64[np.ndarray, "p j 3 3"],
    breadth: Float64[np.ndarray, " p"],
    head_size: Float64[np.ndarray, " p"],
) -> tuple[Float64[np.ndarray, "p l 3"], Float64[np.ndarray, "p 3 3"]]:
    points = np.zeros((len(rotations), len(LANDMARKS), 3))
    pelvis = rotations[:, _ROOT] @ rotations[:, _LEAN]
    chest = pelvis @ rotations[:, _CHEST]
    head = chest @ rotations[:, _NECK]
    points[:, INDEX["spine"]] = -BONES["waist"] * pelvis[:, :, 1]
    points[:, INDEX["neck"]] = points[:, INDEX["spine"]] - BONES["chest"] * chest[:, :, 1]
    points[:, INDEX["thorax"]] = points[:, INDEX["neck"]] + 0.05 * chest[:, :, 1]
    up = (chest[:, :, 1] + head[:, :, 1]) / 2
    centre = points[:, INDEX["neck"]] - (BONES["neck"] * (0.5 + 0.5 * head_size))[:, None] * up
    points[:, INDEX["head_centre"]] = centre + 0.012 * chest[:, :, 2]
    for side, sign in ((0, 1.0), (1, -1.0)):
        shoulder = points[:, INDEX["neck"]] + 0.022 * chest[:, :, 1]
        shoulder = shoulder + (sign * BONES["shoulder"] * breadth)[:, None] * chest[:, :, 0]
        upper = chest @ rotations[:, _SHOULDER + side]
        _set_chain(points, SIDES[side], ARM_CHAIN, shoulder, (upper, upper @ rotations[:, _ELBOW + side]))
        hip = (sign * BONES["hip"] * breadth)[:, None] * pelvis[:, :, 0]
        thigh = pelvis @ rotations[:, _HIP + side]
        shin = thigh @ rotations[:, _KNEE + side]
        _set_chain(points, SIDES[side], LEG_CHAIN, hip, (thigh, shin))
        foot = shin @ rotations[:, _ANKLE + side]
        toe = BONES["foot"] * foot[:, :, 2] + 0.025 * foot[:, :, 1]
        points[:, INDEX[f"{SIDES[side]}_toe"]] = points[:, INDEX[f"{SIDES[side]}_ankle"]] + toe
    set_head_points(points, head, head_size)
    return points, head


ARM_CHAIN = ("shoulder", "elbow", "wrist", "hand")
LEG_CHAIN = ("hip", "knee", "ankle")
_CHAIN_BONES = {"elbow": "upper_arm", "wrist": "forearm", "hand": "hand", "knee": "thigh", "ankle": "shin"}


def _set_chain(
    points: np.ndarray, side: str, chain: Sequence[str], start: np.ndarray, frames: Sequence[np.ndarray]
) -> None:
    """Lay a limb's landmarks out along the y axes of its bones' frames (the last frame goes on)."""
    points[:, INDEX[f"{side}_{chain[0]}"]] = start
    for i, joint in enumerate(chain[1:]):
        start = start + BONES[_CHAIN_BONES[joint]] * frames[min(i, len(frames) - 1)][:, :, 1]
        points[:, INDEX[f"{side}_{joint}"]] = start


def set_head_points(points: np.ndarray, head: np.ndarray, size: np.ndarray) -> None:
    """Write the landmarks on a head of known centre and rotation, whose radii are ``size * HEAD_RADII``."""
    local = np.array(list(HEAD_POINTS.values())) * HEAD_RADII
    placed = np.einsum("pij,nj->pni", head, local) * np.reshape(size, (-1, 1, 1))
    points[:, [INDEX[name] for name in HEAD_POINTS]] = points[:, [INDEX["head_centre"]]] + placed
