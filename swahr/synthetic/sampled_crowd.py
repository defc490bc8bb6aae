"""Random crowds: natural poses within joint limits, heights and positions on one ground plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from swahr.synthetic.body import BONES, INDEX, LANDMARKS, SIDES, Bodies, euler_rotations, set_head_points

_Limits = Float64[np.ndarray, "*n 2"]


def _limits(table: Sequence[Any]) -> _Limits:
    return np.asarray(table, dtype=np.float64)


# Probability of an activity and its joint limits in degrees. Arms: flexion (forwards), abduction (sideways),
# twist (negative turns the bent forearm inwards), elbow.
_ARMS: Mapping[str, tuple[float, Any]] = {
    "hanging": (0.34, ((-12, 18), (5, 20), (-50, 10), (4, 40))),
    "swinging": (0.16, ((-42, 48), (3, 16), (-35, 10), (15, 95))),
    "holding": (0.15, ((0, 50), (5, 25), (-60, -5), (60, 125))),
    "on_hip": (0.08, ((-30, -5), (35, 55), (-90, -65), (80, 110))),
    "raised": (0.12, ((120, 172), (0, 35), (-40, 40), (5, 85))),
    "sideways": (0.08, ((-5, 25), (55, 110), (-30, 90), (5, 90))),
    "reaching": (0.07, ((55, 105), (-10, 20), (-60, 30), (0, 60))),
}
# Legs: flexion, abduction, twist (positive turns the toes out), knee; one entry per leg, in either order.
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


_ROOT, _LEAN, _CHEST, _NECK = 0, 1, 2, 3
_SHOULDER, _ELBOW, _HIP, _KNEE, _ANKLE = 4, 6, 8, 10, 12  # the left one; the right one follows
_NUM_JOINTS = 14
_ARM_CHAIN = ("shoulder", "elbow", "wrist", "hand")
_LEG_CHAIN = ("hip", "knee", "ankle")
_CHAIN_BONES = {"elbow": "upper_arm", "wrist": "forearm", "hand": "hand", "knee": "thigh", "ankle": "shin"}


@dataclass(frozen=True)
class SampledCrowd:
    """Random people in natural poses on one ground plane.

    Attributes:
        people: minimum and maximum number of people per image.
        person_height: range of the tallest person's height, in image heights.
        height_spread: maximum ratio of the tallest to the smallest person of one image.
        unusual_poses: fraction of people in arbitrary poses: bent, lying or upside down.
        facing: fraction of people who face the viewer; the others are seen from the side, from behind or from
            any angle.
        overlap: fraction of people at random positions; the others avoid nearer people where possible.
    """

    people: tuple[int, int]
    person_height: tuple[float, float]
    height_spread: float
    unusual_poses: float
    facing: float
    overlap: float

    def __call__(self, rng: np.random.Generator, size: tuple[int, int]) -> Bodies:
        """Sample the people of an image of ``size`` (h, w), from far to near. Frame: image."""
        height, width = size
        count = int(rng.integers(self.people[0], self.people[1] + 1))
        stature = np.sort(self._sample_statures(rng, count)) * height
        bodies = sample_bodies(rng, count, self.unusual_poses, self.facing)
        lowest = bodies.points[..., 1].max(axis=1) * stature
        ground = self._sample_ground(rng, stature, height)
        extent = np.ptp(bodies.points[..., 0], axis=1) * stature
        across = _sample_across(rng, extent, width, self.overlap)
        middle = (bodies.points[..., 0].max(axis=1) + bodies.points[..., 0].min(axis=1)) / 2 * stature
        return bodies.placed(stature, np.stack([across - middle, ground - lowest], axis=1))

    def _sample_statures(self, rng: np.random.Generator, count: int) -> Float64[np.ndarray, " p"]:
        """Statures in image heights, about log-spaced over a random part of the maximum spread."""
        tallest = rng.uniform(*self.person_height)
        spread = self.height_spread ** float(rng.random())
        steps = (np.arange(count) - rng.uniform(0, 0.6, count)).clip(0) / max(count - 1, 1)
        return np.asarray(tallest * spread**-steps)

    def _sample_ground(
        self, rng: np.random.Generator, stature: Float64[np.ndarray, " p"], height: int
    ) -> Float64[np.ndarray, " p"]:
        """The y of all people's feet: lower for nearer people, in proportion to the camera's height."""
        if not len(stature):
            return stature
        slack = height - stature[-1]
        front = height - slack * rng.uniform(0.0, 0.75) + 0.08 * height * rng.random()
        camera = rng.uniform(0.4, 1.15)
        return np.asarray(
            front - camera * (stature[-1] - stature) + rng.normal(0, 0.02, len(stature)) * stature
        )


def _sample_across(
    rng: np.random.Generator, extent: Float64[np.ndarray, " p"], width: int, overlap: float
) -> Float64[np.ndarray, " p"]:
    """The x of all people's centres: the one of four random positions that overlaps nearer people least.

    A fraction ``overlap`` of the people take their first position, so crowds still overlap.
    """
    margin = np.minimum(0.45 * extent, 0.5 * width)
    tries = margin[:, None] + rng.random((len(extent), 4)) * (width - 2 * margin)[:, None]
    chosen = tries[:, 0].copy()
    avoiding = rng.random(len(extent)) >= overlap
    for person in range(len(extent) - 1, -1, -1):
        if avoiding[person]:
            nearer = slice(person + 1, len(extent))
            gap = np.abs(tries[person, :, None] - chosen[nearer]) - (extent[person] + extent[nearer]) / 2
            chosen[person] = tries[person, int(np.argmax(gap.min(axis=1, initial=0.0)))]
    return np.asarray(chosen)


def sample_bodies(rng: np.random.Generator, count: int, unusual: float, facing: float = 0.5) -> Bodies:
    """Sample ``count`` people in natural poses. Frame: camera, in statures, with the pelvis at the origin.

    Joint angles are uniform within the limits of an activity (standing, walking, sitting, ...), which is
    sampled independently for arms and legs. ``unusual`` is the fraction of people in arbitrary poses within
    joint limits (bent, lying or upside down). ``facing`` is the approximate fraction who face the viewer.
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


def _uniform(rng: np.random.Generator, limits: _Limits) -> Float64[np.ndarray, "*n"]:
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

    People who do not face the viewer are seen from the side, from behind or from any angle, with equal odds.
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
    """Angles of arms and legs; with probability 0.4, the right arm has the activity of the left one."""
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


def _forward_kinematics(
    rotations: Float64[np.ndarray, "p j 3 3"],
    breadth: Float64[np.ndarray, " p"],
    head_size: Float64[np.ndarray, " p"],
) -> tuple[Float64[np.ndarray, "p l 3"], Float64[np.ndarray, "p 3 3"]]:
    # Rotations (p 3 3) of pelvis, chest and head, and the landmarks on the spine.
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
    # Arms and legs, from the trunk outwards.
    for side, sign in ((0, 1.0), (1, -1.0)):
        shoulder = points[:, INDEX["neck"]] + 0.022 * chest[:, :, 1]
        shoulder = shoulder + (sign * BONES["shoulder"] * breadth)[:, None] * chest[:, :, 0]
        upper = chest @ rotations[:, _SHOULDER + side]
        _set_chain(points, SIDES[side], _ARM_CHAIN, shoulder, (upper, upper @ rotations[:, _ELBOW + side]))
        hip = (sign * BONES["hip"] * breadth)[:, None] * pelvis[:, :, 0]
        thigh = pelvis @ rotations[:, _HIP + side]
        shin = thigh @ rotations[:, _KNEE + side]
        _set_chain(points, SIDES[side], _LEG_CHAIN, hip, (thigh, shin))
        foot = shin @ rotations[:, _ANKLE + side]
        toe = BONES["foot"] * foot[:, :, 2] + 0.025 * foot[:, :, 1]
        points[:, INDEX[f"{SIDES[side]}_toe"]] = points[:, INDEX[f"{SIDES[side]}_ankle"]] + toe
    set_head_points(points, head, head_size)
    return points, head


def _set_chain(
    points: np.ndarray, side: str, chain: Sequence[str], start: np.ndarray, frames: Sequence[np.ndarray]
) -> None:
    """Set a limb's landmarks along the y axes of its bones' frames; the last frame is repeated."""
    points[:, INDEX[f"{side}_{chain[0]}"]] = start
    for i, joint in enumerate(chain[1:]):
        start = start + BONES[_CHAIN_BONES[joint]] * frames[min(i, len(frames) - 1)][:, :, 1]
        points[:, INDEX[f"{side}_{joint}"]] = start
