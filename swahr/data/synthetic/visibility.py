"""Whether a keypoint is visible, read from what was drawn rather than guessed from the pose."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from swahr.data.synthetic.appearance import PARTS, parts_called
from swahr.data.synthetic.body import INDEX, LANDMARKS, SIDES, Bodies
from swahr.data.synthetic.painter import PART_BITS
from swahr.structures import ABSENT, OCCLUDED, VISIBLE

_FACE_POINTS = ("nose", "left_eye", "right_eye", "chin")
# Parts whose surface shows a landmark; for the sided ones only those of the landmark's own side count.
_SHOWN_BY = {
    "nose": ("face",), "eye": ("face",), "chin": ("face",), "ear": ("ear",),
    "head": ("head", "face", "hair", "hat"), "head_centre": ("head", "face", "hair", "hat"),
    "neck": ("neck", "chest"), "thorax": ("chest",), "spine": ("chest", "pelvis"),
    "pelvis": ("chest", "pelvis", "skirt", "thigh", "breeches"),
    "shoulder": ("upper_arm", "sleeve"), "elbow": ("upper_arm", "sleeve", "forearm", "cuff"),
    "wrist": ("forearm", "cuff", "hand"), "hand": ("hand",),
    "hip": ("thigh", "breeches"), "knee": ("thigh", "breeches", "shin", "trouser"),
    "ankle": ("shin", "trouser", "foot"), "toe": ("foot",),
}  # fmt: skip
# Parts in the middle of the body show a landmark of either side, unless it lies on the far side of them.
_SHARED = {
    "shoulder": ("chest",),
    "hip": ("pelvis", "chest", "skirt"),
    "knee": ("skirt",),
    "ankle": ("skirt",),
}
_FAR_SIDE = -0.75


def _table(shown_by: dict[str, tuple[str, ...]]) -> Bool[np.ndarray, "l parts"]:
    table = np.zeros((len(LANDMARKS), 1 << PART_BITS), dtype=np.bool_)
    for i, name in enumerate(LANDMARKS):
        side, _, rest = name.partition("_")
        sided = side in SIDES
        parts = parts_called(*shown_by.get(rest if sided else name, ()))
        other = {"left": "right_", "right": "left_"}.get(side, "-")
        table[i, [part for part in parts if not PARTS[part].startswith(other)]] = True
    return table


_OWN_TABLE = _table(_SHOWN_BY)
_SHARED_TABLE = _table(_SHARED)
_PARTNER = np.array(
    [
        INDEX.get(
            name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_"),
            i,
        )
        for i, name in enumerate(LANDMARKS)
    ]
)


def landmark_visibility(bodies: Bodies, ids: UInt16[np.ndarray, "h w"]) -> Int64[np.ndarray, "p l"]:
    """COCO visibility of every landmark of every person, from the id buffer of the finished picture.

    Visible (2): the pixel at the landmark shows this person's skin or clothes *there*: the limb that ends in
    the joint, or the trunk if the joint is not on its far side; points of the face only if the face is turned
    to the viewer. Hidden (1): it shows another person, an object or another part of the own body. Absent (0):
    it lies outside the image.
    """
    height, width = ids.shape
    pixels = np.floor(bodies.points[..., :2]).astype(np.int64)
    x, y = pixels[..., 0], pixels[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    shown = ids[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].astype(np.int64)
    own = shown >> PART_BITS == np.arange(1, len(bodies) + 1)[:, None]
    part = shown & ((1 << PART_BITS) - 1)
    rows = np.arange(len(LANDMARKS))
    surface = _OWN_TABLE[rows, part] & _turned_to_viewer(bodies)
    surface |= _SHARED_TABLE[rows, part] & _near_side(bodies)
    seen = np.where(own & surface, VISIBLE, OCCLUDED)
    return np.where(inside, seen, ABSENT)


def _turned_to_viewer(bodies: Bodies) -> Bool[np.ndarray, "p l"]:
    turned = np.ones(bodies.points.shape[:2], dtype=np.bool_)
    for name in _FACE_POINTS:
        outwards = bodies.points[:, INDEX[name]] - bodies.points[:, INDEX["head_centre"]]
        turned[:, INDEX[name]] = outwards[:, 2] > 0.05 * np.linalg.norm(outwards, axis=1)
    return turned


def _near_side(bodies: Bodies) -> Bool[np.ndarray, "p l"]:
    offset = bodies.points - (bodies.points + bodies.points[:, _PARTNER]) / 2
    return np.asarray(offset[..., 2] >= _FAR_SIDE * np.linalg.norm(offset, axis=-1))
