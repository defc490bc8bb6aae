"""From a photographed person's 2-D keypoints to a whole 3-D body that can be drawn.

What the annotator left out is filled in along the body: it continues the neighbouring bone, or hangs down
from the trunk. Depth follows from foreshortening, a bone being as long as the person's size says; on which
side of the image plane it points is settled by how people bend: knees and forearms to the front.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.data.synthetic.body import BONES, HEAD_POINTS, HEAD_RADII, LANDMARKS, SIDES, euler_rotations

Vector = npt.NDArray[np.float64]
Points = dict[str, Vector]

_TRUNK = BONES["waist"] + BONES["chest"] - 0.022
_MEASURED_LIMBS = (
    ("shoulder", "elbow", "upper_arm"), ("elbow", "wrist", "forearm"),
    ("hip", "knee", "thigh"), ("knee", "ankle", "shin"),
)  # fmt: skip
_MEASURED = (
    *((f"{side}_{a}", f"{side}_{b}", BONES[bone]) for side in SIDES for a, b, bone in _MEASURED_LIMBS),
    *((f"{side}_shoulder", f"{side}_hip", _TRUNK) for side in SIDES),
    ("left_shoulder", "right_shoulder", 2 * BONES["shoulder"]),
    ("left_ear", "right_ear", 2.04 * float(HEAD_RADII[0])),
    ("neck", "head", 0.17),
)  # fmt: skip
_LIMBS = (
    ("shoulder", "elbow", "upper_arm", 0.5), ("elbow", "wrist", "forearm", 1.0),
    ("wrist", "hand", "hand", 1.0), ("hip", "knee", "thigh", 1.0), ("knee", "ankle", "shin", -1.0),
)  # fmt: skip
"""Bones from the trunk outwards and the share of their depth that points to the person's front."""

_YAWS, _PITCHES, _ROLLS = range(-180, 180, 15), (-20, 0, 20), range(-180, 180, 20)
_HEADS = euler_rotations(
    np.deg2rad(np.array([(roll, pitch, yaw) for roll in _ROLLS for pitch in _PITCHES for yaw in _YAWS]))
)
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_FACE_MODEL = np.array([HEAD_POINTS[name] for name in _FACE]) * HEAD_RADII
_FACE_NORMALS = np.array([HEAD_POINTS[name] for name in _FACE]) / HEAD_RADII


def can_lift(known: Mapping[str, Vector]) -> bool:
    """Whether a person has what it takes: four keypoints, one of them a shoulder or a hip, and a bone."""
    rooted = any(f"{side}_{part}" in known for side in SIDES for part in ("shoulder", "hip"))
    return len(known) >= 4 and rooted and _measure(known) > 1.0


def lift(known: Mapping[str, Vector]) -> tuple[Float64[np.ndarray, "l 3"], Float64[np.ndarray, "3 3"], float]:
    """Complete one person. Frame: whatever the keypoints are in; depth in the same unit.

    Args:
        known: annotated keypoints (x, y) by landmark name; `can_lift` must hold.

    Returns:
        All landmarks, the rotation of the head, and the stature.
    """
    stature = _measure(known)
    points: Points = {name: np.array([*xy, 0.0]) for name, xy in known.items()}
    down = _fill_trunk(points, stature)
    _set_trunk_depth(points, known, stature)
    forward = _forward(points, down)
    _fill_limbs(points, down, float(np.sign(forward[2]) or 1.0), stature)
    _fill_midline(points, stature)
    for side in SIDES:
        step = 0.085 * forward + 0.025 * down
        points[f"{side}_toe"] = points[f"{side}_ankle"] + stature * step
    rotation = _fit_head(points, known, stature, down)
    local = np.array(list(HEAD_POINTS.values())) * HEAD_RADII @ rotation.T
    points |= dict(zip(HEAD_POINTS, points["head_centre"] + stature * local, strict=True))
    return np.stack([points[name] for name in LANDMARKS]), rotation, stature


def _measure(known: Mapping[str, Vector]) -> float:
    """The stature: foreshortening only shortens bones, so the one that asks for the tallest decides."""
    spans = [(known[a] - known[b], length) for a, b, length in _MEASURED if a in known and b in known]
    return max((float(np.hypot(*span)) / length for span, length in spans), default=0.0)


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6))


def _fill_trunk(points: Points, stature: float) -> Vector:
    """Complete shoulders and hips; return the direction from shoulders to hips."""
    downs = [points[f"{side}_hip"] - points[f"{side}_shoulder"] for side in SIDES if _both(points, side)]
    down = _unit(np.sum(downs, axis=0)) if downs else np.array([0.0, 1.0, 0.0])
    across = _across(points, stature)
    for part, width in (("shoulder", 1.0), ("hip", BONES["hip"] / BONES["shoulder"])):
        for side, other, sign in (("left", "right", 1.0), ("right", "left", -1.0)):
            if f"{side}_{part}" not in points and f"{other}_{part}" in points:
                points[f"{side}_{part}"] = points[f"{other}_{part}"] + 2 * sign * width * across
    for have, lack, sign, narrower in (("shoulder", "hip", 1.0, 0.54), ("hip", "shoulder", -1.0, 1.85)):
        if f"left_{lack}" not in points:
            middle = (points[f"left_{have}"] + points[f"right_{have}"]) / 2
            for side in SIDES:
                aside = narrower * (points[f"{side}_{have}"] - middle)
                points[f"{side}_{lack}"] = middle + aside + sign * _TRUNK * stature * down
    return down


def _both(points: Points, side: str) -> bool:
    return f"{side}_hip" in points and f"{side}_shoulder" in points


def _across(points: Points, stature: float) -> Vector:
    """Half the way from the right to the left shoulder, as far as the annotations tell."""
    for part, width in (("shoulder", 1.0), ("hip", 1.85), ("ear", 2.3), ("eye", 5.0)):
        if f"left_{part}" in points and f"right_{part}" in points:
            return np.asarray(width * (points[f"left_{part}"] - points[f"right_{part}"]) / 2)
    return np.array([0.7 * BONES["shoulder"] * stature, 0.0, 0.0])


def _set_trunk_depth(points: Points, known: Mapping[str, Vector], stature: float) -> None:
    """Turn shoulders and hips out of the image plane."""
    nearer = _nearer_side(known)
    for part in ("shoulder", "hip"):
        left, right = points[f"left_{part}"], points[f"right_{part}"]
        seen = float(np.hypot(*(left - right)[:2])) / 2
        depth = float(np.sqrt(max((BONES[part] * stature) ** 2 - seen**2, 0.0)))
        left[2], right[2] = nearer * depth, -nearer * depth


def _nearer_side(known: Mapping[str, Vector]) -> float:
    """The side that the face is not turned to, or whose ear shows alone; the left one if nothing tells."""
    if ("left_ear" in known) != ("right_ear" in known):
        return 1.0 if "left_ear" in known else -1.0
    body = [
        known[f"{side}_{part}"] for side in SIDES for part in ("ear", "shoulder") if f"{side}_{part}" in known
    ]
    if "nose" in known and body:
        return -1.0 if known["nose"][0] > np.mean(body, axis=0)[0] else 1.0
    return 1.0


def _forward(points: Points, down: Vector) -> Vector:
    leftwards = points["left_shoulder"] - points["right_shoulder"] + points["left_hip"] - points["right_hip"]
    return _unit(np.cross(leftwards, down))


def _fill_limbs(points: Points, down: Vector, front: float, stature: float) -> None:
    for side in SIDES:
        for start, end, bone, share in _LIMBS:
            root, length = points[f"{side}_{start}"], BONES[bone] * stature
            tip = points.get(f"{side}_{end}")
            if tip is None:
                before = {"wrist": "elbow", "elbow": "shoulder", "knee": "hip"}.get(start)
                along = _unit(root - points[f"{side}_{before}"]) if before and bone != "shin" else down
                points[f"{side}_{end}"] = root + length * along
                continue
            seen = float(np.hypot(*(tip - root)[:2]))
            depth = float(np.sqrt(max((0.95 * length) ** 2 - seen**2, 0.0)))
            tip[2] = root[2] + front * share * depth


def _fill_midline(points: Points, stature: float) -> None:
    shoulders = (points["left_shoulder"] + points["right_shoulder"]) / 2
    pelvis = (points["left_hip"] + points["right_hip"]) / 2
    up = _unit(shoulders - pelvis)
    points["pelvis"] = pelvis
    points.setdefault("neck", shoulders + 0.022 * stature * up)
    points["spine"] = 0.6 * pelvis + 0.4 * points["neck"]
    points["thorax"] = points["neck"] - 0.05 * stature * up


def _fit_head(
    points: Points, known: Mapping[str, Vector], stature: float, down: Vector
) -> Float64[np.ndarray, "3 3"]:
    """Place the head's centre and choose, of many rotations, the one that explains nose, eyes and ears best.

    A point that is annotated should face the viewer, one that is not should face away; the head stays near
    the trunk's axis.
    """
    seen = np.array([name in known for name in _FACE])
    upright = _unit(points["neck"] - points["head"])[:2] if "head" in known else down[:2]
    cost = 0.3 * (1 - _HEADS[:, :2, 1] @ upright)
    facing = (_HEADS @ _FACE_NORMALS.T)[:, 2] * 0.05
    projected = stature * (_HEADS @ _FACE_MODEL.T)[:, :2].swapaxes(1, 2)
    if seen.any():
        observed = np.array([known[name] for name in _FACE if name in known])
        offsets = observed - projected[:, seen]
        centres = offsets.mean(axis=1)
        residuals = np.hypot(*np.moveaxis(offsets - centres[:, None], -1, 0)).mean(axis=1)
        cost += 30 * residuals / stature + 0.3 * np.where(seen, -facing, facing).clip(-0.2, 0.5).mean(axis=1)
    else:
        chin_up = 0.5 * (points["neck"][:2] + points["head"][:2]) if "head" in known else None
        centre = chin_up if chin_up is not None else points["neck"][:2] - BONES["neck"] * stature * upright
        centres = np.broadcast_to(centre, (len(_HEADS), 2))
        front = _forward(points, down)
        cost += 1 - _HEADS[:, :, 2] @ front
    best = int(np.argmin(cost))
    points["head_centre"] = np.array([*centres[best], points["neck"][2]])
    return np.asarray(_HEADS[best])
