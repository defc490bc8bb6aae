"""Crowds with the poses, sizes and positions of a COCO-format keypoint file, lifted to 3-D bodies.

Missing keypoints are extrapolated: they continue the adjacent bone or hang down from the trunk. Depth is
computed from foreshortening, with bone lengths proportional to the person's stature. Its sign follows from
how limbs bend: knees and forearms point to the front.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from swahr.choices import check_choice
from swahr.data.coco_file import CocoImage, read_coco_file
from swahr.geometry import POINT_FROM_INDEX, fit_rectangle
from swahr.person_frame import person_frame
from swahr.synthetic.body import (
    BONES,
    HEAD_POINTS,
    HEAD_RADII,
    INDEX,
    LANDMARKS,
    SIDES,
    Bodies,
    euler_rotations,
)

_Vector = npt.NDArray[np.float64]
_Points = dict[str, _Vector]

Window = Literal["image", "people"]
"""The part of a layout that fills the rendered image."""
_ENLARGE = 1.25  # factor on the box of people

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
"""(start, end, bone, fraction of the depth that points to the person's front), from the trunk outwards."""

_YAWS, _PITCHES, _ROLLS = range(-180, 180, 15), (-20, 0, 20), range(-180, 180, 20)
_HEADS = euler_rotations(
    np.deg2rad(np.array([(roll, pitch, yaw) for roll in _ROLLS for pitch in _PITCHES for yaw in _YAWS]))
)
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_FACE_MODEL = np.array([HEAD_POINTS[name] for name in _FACE]) * HEAD_RADII
_FACE_NORMALS = np.array([HEAD_POINTS[name] for name in _FACE]) / HEAD_RADII


class LayoutCrowd:
    """The people of a random image of a keypoint file, scaled so that its ``window`` fits the rendered image.

    Usable people have at least four labelled keypoints, including a shoulder or a hip. The rest of their
    bodies is extrapolated, so rendered people have *more* keypoints than annotated ones. Visibilities are
    those of the rendered image. Taller people are assumed to be nearer.

    Args:
        layouts: a COCO-format file with keypoint names in its category, ``.json`` or ``.json.gz``.
        people: minimum and maximum number of usable people in the images to use.
        window: ``image``, or ``people``, the box of the usable people's keypoints, enlarged by a quarter. The
            latter keeps how people's sizes and positions differ, but they are larger.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is malformed, names keypoints that bodies do not have, or no image has a number
            of usable people in the range ``people``.
    """

    def __init__(self, layouts: str | Path, people: tuple[int, int], window: Window = "image") -> None:
        check_choice("window", window, get_args(Window))
        self._window: Window = window
        file = read_coco_file(Path(layouts), None)
        names = file.skeleton.keypoints
        if unknown := [name for name in names if name not in INDEX]:
            raise ValueError(f"{layouts}: expected keypoints among {list(INDEX)}, got {unknown}; rename them")
        usable = [(image.size, _usable_people(image, names)) for image in file.images]
        self._images = [
            (size, persons) for size, persons in usable if max(people[0], 1) <= len(persons) <= people[1]
        ]
        if not self._images:
            raise ValueError(
                f"{layouts}: none of its {len(file.images)} images has {people[0]} to {people[1]} "
                f"people with enough keypoints; widen the range 'people'"
            )

    def __call__(self, rng: np.random.Generator, size: tuple[int, int]) -> Bodies:
        """The people of a random annotated image, fitted into ``size`` (h, w), far to near. Frame: image."""
        source_size, persons = self._images[int(rng.integers(len(self._images)))]
        points, heads, statures = (np.stack(part) for part in zip(*map(_lift, persons), strict=True))
        image_from_source = fit_rectangle(source_size, size)
        if self._window == "people":
            everyone = np.concatenate([list(person.values()) for person in persons])
            image_from_source = person_frame(everyone, size, enlarge=_ENLARGE, smallest=1.0)
        points[..., :2] = image_from_source.apply(points[..., :2])
        points[..., 2] *= image_from_source.length_ratio
        order = np.argsort(statures, kind="stable")
        girth = rng.uniform(0.85, 1.2, len(order))
        stature = np.asarray(statures[order] * image_from_source.length_ratio, dtype=np.float64)
        return Bodies(points[order], heads[order], stature, girth, np.ones(len(order)))


def _usable_people(image: CocoImage, names: Sequence[str]) -> list[_Points]:
    """The keypoints by name of each person from which a body can be built."""
    people = []
    for annotation in filter(lambda person: person.is_labelled, image.annotations):
        points = POINT_FROM_INDEX.apply(annotation.keypoints[:, :2])
        seen = zip(names, points, annotation.keypoints[:, 2], strict=True)
        people.append({name: point for name, point, visibility in seen if visibility > 0})
    return [*filter(_can_lift, people)]


def _can_lift(known: Mapping[str, _Vector]) -> bool:
    """Whether four keypoints are known, including a shoulder or a hip, and they determine a stature."""
    rooted = any(f"{side}_{part}" in known for side in SIDES for part in ("shoulder", "hip"))
    return len(known) >= 4 and rooted and _measure(known) > 1.0


def _lift(
    known: Mapping[str, _Vector],
) -> tuple[Float64[np.ndarray, "l 3"], Float64[np.ndarray, "3 3"], float]:
    """The complete body of one person. Frame: that of the keypoints, with depth in the same unit.

    Args:
        known: annotated keypoints (x, y) by landmark name; `_can_lift` is True.

    Returns:
        All landmarks, the rotation of the head, and the stature.
    """
    stature = _measure(known)
    points: _Points = {name: np.array([*xy, 0.0]) for name, xy in known.items()}
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


def _measure(known: Mapping[str, _Vector]) -> float:
    """The stature: the maximum of the estimates from all bones, because foreshortening shortens bones."""
    spans = [(known[a] - known[b], length) for a, b, length in _MEASURED if a in known and b in known]
    return max((float(np.hypot(*span)) / length for span, length in spans), default=0.0)


def _unit(vector: _Vector) -> _Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6))


def _fill_trunk(points: _Points, stature: float) -> _Vector:
    """Add missing shoulders and hips; return the direction from shoulders to hips."""
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


def _both(points: _Points, side: str) -> bool:
    return f"{side}_hip" in points and f"{side}_shoulder" in points


def _across(points: _Points, stature: float) -> _Vector:
    """Half the vector from the right to the left shoulder, from the first annotated pair."""
    for part, width in (("shoulder", 1.0), ("hip", 1.85), ("ear", 2.3), ("eye", 5.0)):
        if f"left_{part}" in points and f"right_{part}" in points:
            return np.asarray(width * (points[f"left_{part}"] - points[f"right_{part}"]) / 2)
    return np.array([0.7 * BONES["shoulder"] * stature, 0.0, 0.0])


def _set_trunk_depth(points: _Points, known: Mapping[str, _Vector], stature: float) -> None:
    """Rotate shoulders and hips out of the image plane."""
    nearer = _nearer_side(known)
    for part in ("shoulder", "hip"):
        left, right = points[f"left_{part}"], points[f"right_{part}"]
        seen = float(np.hypot(*(left - right)[:2])) / 2
        depth = float(np.sqrt(max((BONES[part] * stature) ** 2 - seen**2, 0.0)))
        left[2], right[2] = nearer * depth, -nearer * depth


def _nearer_side(known: Mapping[str, _Vector]) -> float:
    """1 if the left side is nearer (only its ear is labelled, or the nose is left of the body), else -1."""
    if ("left_ear" in known) != ("right_ear" in known):
        return 1.0 if "left_ear" in known else -1.0
    body = [
        known[f"{side}_{part}"] for side in SIDES for part in ("ear", "shoulder") if f"{side}_{part}" in known
    ]
    if "nose" in known and body:
        return -1.0 if known["nose"][0] > np.mean(body, axis=0)[0] else 1.0
    return 1.0


def _forward(points: _Points, down: _Vector) -> _Vector:
    leftwards = points["left_shoulder"] - points["right_shoulder"] + points["left_hip"] - points["right_hip"]
    return _unit(np.cross(leftwards, down))


def _fill_limbs(points: _Points, down: _Vector, front: float, stature: float) -> None:
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


def _fill_midline(points: _Points, stature: float) -> None:
    shoulders = (points["left_shoulder"] + points["right_shoulder"]) / 2
    pelvis = (points["left_hip"] + points["right_hip"]) / 2
    up = _unit(shoulders - pelvis)
    points["pelvis"] = pelvis
    points.setdefault("neck", shoulders + 0.022 * stature * up)
    points["spine"] = 0.6 * pelvis + 0.4 * points["neck"]
    points["thorax"] = points["neck"] - 0.05 * stature * up


def _fit_head(
    points: _Points, known: Mapping[str, _Vector], stature: float, down: _Vector
) -> Float64[np.ndarray, "3 3"]:
    """Set the head's centre and return the rotation, among a fixed set, of least cost.

    The cost sums the residuals of nose, eyes and ears, labelled points that face away from the viewer, other
    points that face the viewer, and the angle between the axes of head and trunk.
    """
    # The tilt of every rotation (r) against the trunk, and its face points (r n 2) about the head's centre.
    seen = np.array([name in known for name in _FACE])
    upright = _unit(points["neck"] - points["head"])[:2] if "head" in known else down[:2]
    cost = 0.3 * (1 - _HEADS[:, :2, 1] @ upright)
    facing = (_HEADS @ _FACE_NORMALS.T)[:, 2] * 0.05
    projected = stature * (_HEADS @ _FACE_MODEL.T)[:, :2].swapaxes(1, 2)
    # With labelled points, the centre is their mean offset; otherwise, it is estimated from neck and head.
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
