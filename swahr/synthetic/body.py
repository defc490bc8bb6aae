"""People as articulated 3-D bodies: landmarks, bone lengths, and the data class `Bodies`.

Frame: *camera*, with x to the right, y down and z towards the viewer. The unit is the stature (the height of
the upright person) or, after `Bodies.placed`, the pixel. The projection is orthographic, so (x, y) are image
coordinates. A body at rest faces the viewer, arms down, so its left side is on the right of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SIDES = ("left", "right")
_PAIRED = ("eye", "ear", "shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "toe")
LANDMARKS = (
    *("nose", "chin", "head", "head_centre", "neck", "thorax", "spine", "pelvis"),
    *(f"{side}_{part}" for part in _PAIRED for side in SIDES),
)
"""The points of a body. All except ``head_centre`` can be keypoints; ``head`` is the top of the head."""
INDEX: Mapping[str, int] = {name: i for i, name in enumerate(LANDMARKS)}

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
"""Points of the head in units of its radii: x to the person's left, y down, z out of the face."""


@dataclass(frozen=True, eq=False)
class Bodies:
    """The bodies of ``p`` people. Frame: camera; in pixels after `placed`.

    Attributes:
        points: all `LANDMARKS`.
        head: rotation of each head (columns: the person's left, down, out of the face).
        stature: height of each person when upright, in the unit of ``points``.
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
        """The bodies scaled to ``stature`` pixels and moved by ``offset`` (x, y) pixels."""
        points = self.points * stature[:, None, None]
        points[:, :, :2] += offset[:, None]
        return Bodies(points, self.head, stature, self.girth, self.head_size)


def euler_rotations(angles: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3 3"]:
    """``Rz(a) @ Rx(b) @ Ry(c)`` for Euler angles (a, b, c) in radians."""
    (a, b, c), (sa, sb, sc) = np.moveaxis(np.cos(angles), -1, 0), np.moveaxis(np.sin(angles), -1, 0)
    rows = (
        (a * c - sa * sb * sc, -sa * b, a * sc + sa * sb * c),
        (sa * c + a * sb * sc, a * b, sa * sc - a * sb * c),
        (-b * sc, sb, b * c),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def set_head_points(points: np.ndarray, head: np.ndarray, size: np.ndarray) -> None:
    """Set the landmarks of heads from their centres in ``points``, rotations ``head`` and relative sizes."""
    local = np.array(list(HEAD_POINTS.values())) * HEAD_RADII
    placed = np.einsum("pij,nj->pni", head, local) * np.reshape(size, (-1, 1, 1))
    points[:, [INDEX[name] for name in HEAD_POINTS]] = points[:, [INDEX["head_centre"]]] + placed
