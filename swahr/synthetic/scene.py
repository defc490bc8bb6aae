"""Rendering of one crowd, from far to near, and annotations computed from the rendered image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64, UInt8, UInt16

from swahr.structures import ABSENT, OCCLUDED, VISIBLE
from swahr.synthetic.appearance import PARTS, parts_called, sample_outfits
from swahr.synthetic.body import INDEX, LANDMARKS, SIDES, Bodies
from swahr.synthetic.painter import PART_BITS, Canvas, paint_person, soft_shadow
from swahr.synthetic.scenery import paint_background, paint_object
from swahr.synthetic.shapes import person_shapes
from swahr.synthetic.textures import texture_bank

_KEYPOINT_STEP = 64.0
"""Coordinates are rounded to 1/64 pixel, so that subtracting COCO's half pixel is exact."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered image and its people. Frame: image.

    The first ``len(keypoints)`` rows of ``area`` and ``boxes`` belong to labelled people, any others to
    unlabelled people, who have no visible keypoint. The pixels of unlabelled people are False in ``valid``.

    Attributes:
        area: visible pixels.
        boxes: around the visible pixels, (x, y, width, height).
    """

    image: UInt8[np.ndarray, "H W 3"]
    keypoints: Float64[np.ndarray, "p k 2"]
    visibility: Int64[np.ndarray, "p k"]
    area: Float64[np.ndarray, " q"]
    boxes: Float64[np.ndarray, "q 4"]
    valid: Bool[np.ndarray, "H W"]


def paint_crowd(
    rng: np.random.Generator,
    bodies: Bodies,
    size: tuple[int, int],
    objects: int,
    clutter: int,
    background_contrast: float,
) -> Canvas:
    """Paint a background, people, and objects in front of random people.

    Args:
        rng: random generator.
        bodies: from far to near. Frame: image.
        size: (h, w) of the image.
        objects: number of objects in front of people.
        clutter: number of objects in the background.
        background_contrast: factor on the contrast of the background's textures.
    """
    eye_level = float(bodies.points[-1, INDEX["neck"], 1]) if len(bodies) else size[0] / 2
    horizon = eye_level + size[0] * rng.uniform(-0.1, 0.35)
    canvas = Canvas.on(paint_background(rng, size, horizon, clutter, background_contrast))
    if len(bodies):
        _paint_people(rng, canvas, bodies, objects)
    return canvas


def _paint_people(rng: np.random.Generator, canvas: Canvas, bodies: Bodies, objects: int) -> None:
    outfits = sample_outfits(rng, len(bodies), len(texture_bank().patterns))
    angle = rng.uniform(-np.pi, 0.0)
    light = rng.uniform(0.4, 1.0) * np.array([np.cos(angle), np.sin(angle)])
    shapes = person_shapes(bodies, outfits, light)
    in_front_of = rng.integers(0, len(bodies), objects)
    for person in range(len(bodies)):
        _cast_shadow(canvas.image, bodies, person)
        paint_person(canvas, shapes[person], bodies, outfits, person)
        for _ in range(int(np.count_nonzero(in_front_of == person))):
            x, y = bodies.points[person, :, 0], bodies.points[person, :, 1]
            foot = (rng.uniform(x.min(), x.max()), rng.uniform(y.mean(), y.max()))
            paint_object(rng, canvas, foot, float(bodies.stature[person]))


def _cast_shadow(image: npt.NDArray[np.uint8], bodies: Bodies, person: int) -> None:
    names = ("left_toe", "right_toe", "left_ankle", "right_ankle")
    feet = bodies.points[person, [INDEX[name] for name in names]]
    stature = float(bodies.stature[person])
    centre = (float(feet[:, 0].mean()), float(feet[:, 1].max()))
    wide = float(np.ptp(feet[:, 0])) / 2 + 0.16 * stature
    soft_shadow(image, centre, (wide, 0.05 * stature))


def annotate(canvas: Canvas, image: npt.NDArray[np.uint8], bodies: Bodies, landmarks: Sequence[int]) -> Scene:
    """Label all people with at least one visible keypoint.

    Args:
        canvas: with the people painted on it.
        image: the final image, i.e. the canvas after `photograph`.
        bodies: the painted people.
        landmarks: indices of the skeleton's keypoints among `LANDMARKS`.
    """
    visibility = landmark_visibility(bodies, canvas.ids)[:, landmarks]
    keypoints = np.rint(bodies.points[:, landmarks, :2] * _KEYPOINT_STEP) / _KEYPOINT_STEP
    keypoints = np.where(visibility[..., None] == ABSENT, 0.0, keypoints)
    owner = np.asarray(canvas.ids >> PART_BITS, dtype=np.uint16)
    area, boxes = _extents(owner, len(bodies))
    labelled = (visibility == VISIBLE).any(axis=1)
    unlabelled = ~labelled & (area > 0)
    order = np.concatenate([np.flatnonzero(labelled), np.flatnonzero(unlabelled)])
    return Scene(
        image=image,
        keypoints=keypoints[labelled],
        visibility=visibility[labelled],
        area=area[order],
        boxes=boxes[order],
        valid=~np.isin(owner, np.flatnonzero(unlabelled) + 1),
    )


def _extents(
    owner: npt.NDArray[np.uint16], count: int
) -> tuple[Float64[np.ndarray, " p"], Float64[np.ndarray, "p 4"]]:
    """Visible pixels and their bounding box (x, y, width, height) per person."""
    area, boxes = np.zeros(count), np.zeros((count, 4))
    for person in range(count):
        shown = (owner == person + 1).view(np.uint8)
        area[person] = cv2.countNonZero(shown)
        boxes[person] = cv2.boundingRect(shown)
    return area, boxes


_FACE_POINTS = ("nose", "left_eye", "right_eye", "chin")
# Parts whose surface shows a landmark; only the landmark's own side of paired parts.
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
# Parts in the middle of the body; they show landmarks of both sides that are not on their far side.
_SHARED = {
    "shoulder": ("chest",), "hip": ("pelvis", "chest", "skirt"), "knee": ("skirt",), "ankle": ("skirt",),
}  # fmt: skip
_FAR_SIDE = -0.75
_OTHER_SIDE = dict(zip(SIDES, reversed(SIDES), strict=True))


def _split_side(landmark: str) -> tuple[str, str]:
    """The side of a landmark (empty in the middle of the body) and its name without the side."""
    side, _, name = landmark.partition("_")
    return (side, name) if side in SIDES else ("", landmark)


def _table(shown_by: Mapping[str, tuple[str, ...]]) -> Bool[np.ndarray, "l parts"]:
    table = np.zeros((len(LANDMARKS), 1 << PART_BITS), dtype=np.bool_)
    for i, landmark in enumerate(LANDMARKS):
        side, name = _split_side(landmark)
        for part in parts_called(*shown_by.get(name, ())):
            table[i, part] = not side or not PARTS[part].startswith(_OTHER_SIDE[side])
    return table


def _partner(landmark: str) -> int:
    side, name = _split_side(landmark)
    return INDEX[f"{_OTHER_SIDE[side]}_{name}" if side else landmark]


_OWN_TABLE = _table(_SHOWN_BY)
_SHARED_TABLE = _table(_SHARED)
_PARTNER = np.array([_partner(landmark) for landmark in LANDMARKS])


def landmark_visibility(bodies: Bodies, ids: UInt16[np.ndarray, "h w"]) -> Int64[np.ndarray, "p l"]:
    """COCO visibility of every landmark of every person, from the id buffer of the finished image.

    Visible (2): the pixel at the landmark shows a part of this person on which the landmark lies, i.e. a limb
    that ends in the joint, or the trunk if the joint is not on its far side. Points of the face must also
    face the viewer. Occluded (1): the pixel shows another person, an object or another part of the same
    person. Absent (0): the landmark is outside the image.
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
    return np.where(inside, np.where(own & surface, VISIBLE, OCCLUDED), ABSENT)


def _turned_to_viewer(bodies: Bodies) -> Bool[np.ndarray, "p l"]:
    turned = np.ones(bodies.points.shape[:2], dtype=np.bool_)
    for name in _FACE_POINTS:
        outwards = bodies.points[:, INDEX[name]] - bodies.points[:, INDEX["head_centre"]]
        turned[:, INDEX[name]] = outwards[:, 2] > 0.05 * np.linalg.norm(outwards, axis=1)
    return turned


def _near_side(bodies: Bodies) -> Bool[np.ndarray, "p l"]:
    offset = bodies.points - (bodies.points + bodies.points[:, _PARTNER]) / 2
    return np.asarray(offset[..., 2] >= _FAR_SIDE * np.linalg.norm(offset, axis=-1))


def crowd_index(scene: Scene) -> float:
    """CrowdPose's crowd index of an image: 0 for separate people, above 0.8 for images that it calls hard.

    The mean over people of the number of *other* people's keypoints inside a person's box, divided by the
    number of the person's own labelled keypoints (Li et al., CVPR 2019). It may exceed 1, as in CrowdPose's
    files.
    """
    count = len(scene.keypoints)
    if count == 0:
        return 0.0
    labelled = scene.visibility != ABSENT
    corner, size = scene.boxes[:count, None, None, :2], scene.boxes[:count, None, None, 2:]
    inside = ((scene.keypoints >= corner) & (scene.keypoints <= corner + size)).all(axis=-1) & labelled
    held = inside.sum(axis=-1)
    others = held.sum(axis=1) - held.diagonal()
    return float((others / labelled.sum(axis=1)).mean())
