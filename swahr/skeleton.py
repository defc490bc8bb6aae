"""Skeletons: a person's keypoints and everything that is defined on them by name.

`COCO` (17 keypoints) and `CROWDPOSE` (14) are defined here. Others are read from the ``categories`` entry of
a COCO-format file (`Skeleton.from_category`) or from YAML (`Skeleton.from_yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

Pair = tuple[str, str]

_COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "head": 0.079, "neck": 0.079,
}  # fmt: skip
_FALLBACK_SIGMA = 0.067  # the mean of COCO's seventeen
_TORSO_WORDS = ("torso", "pelvis", "spine", "chest", "thorax", "neck", "shoulder", "hip")


@dataclass(frozen=True)
class Skeleton:
    """An ordered set of keypoints with flip pairs, limbs, OKS sigmas and a grouping order.

    Attributes:
        name: used in messages and files.
        keypoints: names, in the order of the annotation files.
        flip_pairs: (left, right) names, exchanged in a mirror image.
        limbs: pairs of names, connected in drawings.
        sigmas: OKS constants, one per keypoint (COCO's convention, e.g. 0.107 for a hip).
        grouping_order: names in the order in which grouping visits them.

    Raises:
        ValueError: names repeat, are unknown, or the lengths disagree.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[Pair, ...]
    limbs: tuple[Pair, ...]
    sigmas: tuple[float, ...]
    grouping_order: tuple[str, ...]

    def __post_init__(self) -> None:
        where, names = f"skeleton '{self.name}'", list(self.keypoints)
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{where}: expected distinct keypoint names, got {names}")
        for field, pairs in (("flip_pairs", self.flip_pairs), ("limbs", self.limbs)):
            if unknown := sorted({name for pair in pairs for name in pair} - set(names)):
                raise ValueError(
                    f"{where}: {field} name {unknown}, but the keypoints are {names}; correct the names"
                )
        flipped = [name for pair in self.flip_pairs for name in pair]
        if len(flipped) != len(set(flipped)):
            raise ValueError(f"{where}: expected no keypoint in two flip pairs, got {self.flip_pairs}")
        if len(self.sigmas) != len(names) or min(self.sigmas) <= 0:
            raise ValueError(f"{where}: expected {len(names)} positive sigmas, got {self.sigmas}")
        if sorted(self.grouping_order) != sorted(names):
            raise ValueError(
                f"{where}: grouping_order must name every keypoint once, got {list(self.grouping_order)}"
            )

    @property
    def num_keypoints(self) -> int:
        """The number of keypoints, ``k``."""
        return len(self.keypoints)

    @cached_property
    def flip_permutation(self) -> tuple[int, ...]:
        """For each keypoint the index of its mirror image (itself when it has none)."""
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return tuple(self.keypoints.index(partner.get(name, name)) for name in self.keypoints)

    @cached_property
    def limb_indices(self) -> tuple[tuple[int, int], ...]:
        """Limbs as pairs of keypoint indices."""
        return tuple((self.keypoints.index(a), self.keypoints.index(b)) for a, b in self.limbs)

    @cached_property
    def grouping_indices(self) -> tuple[int, ...]:
        """Keypoint indices in the order in which grouping visits them."""
        return tuple(self.keypoints.index(name) for name in self.grouping_order)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for checkpoints; `from_dict` reads them back."""
        return asdict(self)

    def to_category(self) -> dict[str, Any]:
        """The ``categories`` entry of a COCO-format file; `from_category` reads it back."""
        return {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(self.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in self.limb_indices],
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "sigmas": list(self.sigmas),
            "grouping_order": list(self.grouping_order),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "skeleton") -> Skeleton:
        """Build a skeleton from plain values; only ``keypoints`` is required.

        Defaults: flip pairs by the words ``left`` and ``right`` in the names, COCO's sigmas by name, and a
        grouping order from the torso outwards along the limbs. ``source`` begins error messages.

        Raises:
            ValueError: ``keypoints`` is missing, a key is unknown, or names are inconsistent.
        """
        allowed = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - allowed):
            raise ValueError(f"{source}: unknown keys {unknown}; expected some of {sorted(allowed)}")
        if not (names := values.get("keypoints")):
            raise ValueError(f"{source}: expected a list 'keypoints' of names, got {names!r}")
        keypoints = tuple(map(str, names))
        limbs = _as_pairs(values.get("limbs") or ())
        given = {key: value for key, value in values.items() if value is not None}
        return cls(
            name=str(given.get("name", "person")),
            keypoints=keypoints,
            flip_pairs=_as_pairs(given.get("flip_pairs", _flip_pairs_by_name(keypoints))),
            limbs=limbs,
            sigmas=tuple(map(float, given.get("sigmas", map(_sigma_by_name, keypoints)))),
            grouping_order=tuple(map(str, given.get("grouping_order", _torso_outward(keypoints, limbs)))),
        )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Skeleton:
        """Read a YAML file with ``keypoints`` and, optionally, the other fields (see `from_dict`)."""
        with Path(path).open(encoding="utf-8") as file:
            values = yaml.safe_load(file)
        if not isinstance(values, dict):
            raise TypeError(f"{path}: expected a YAML mapping with 'keypoints', got {type(values).__name__}")
        return cls.from_dict({"name": Path(path).stem, **values}, source=str(path))

    @classmethod
    def from_category(cls, category: Mapping[str, Any], *, source: str = "annotations") -> Skeleton:
        """Read the ``categories`` entry of a COCO-format file.

        COCO's and CrowdPose's keypoint names give `COCO` and `CROWDPOSE`, whatever else the entry holds:
        CrowdPose's own files have limb indices that do not fit their keypoints. Other entries give the limbs
        in ``skeleton`` (1-based index pairs) and, optionally, ``flip_pairs``, ``sigmas`` and
        ``grouping_order``.

        Raises:
            ValueError: no keypoints, or limbs that point outside them.
        """
        names = tuple(category.get("keypoints") or ())
        for known in (COCO, CROWDPOSE):
            if names == known.keypoints:
                return known
        limbs = category.get("skeleton") or ()
        for pair in limbs:
            if len(pair) != 2 or not all(1 <= int(i) <= len(names) for i in pair):
                raise ValueError(
                    f"{source}: expected 1-based index pairs up to {len(names)} (the number of keypoints) in "
                    f"the category's skeleton, got {list(pair)}; correct it"
                )
        values: dict[str, Any] = {
            "name": category.get("name", "person"),
            "keypoints": names,
            "limbs": [(names[int(a) - 1], names[int(b) - 1]) for a, b in limbs],
        }
        optional = {"flip_pairs", "sigmas", "grouping_order"} & category.keys()
        return cls.from_dict(values | {key: category[key] for key in optional}, source=source)


def _as_pairs(pairs: Sequence[Sequence[str]]) -> tuple[Pair, ...]:
    if bad := [pair for pair in pairs if len(pair) != 2]:
        raise ValueError(f"expected pairs of keypoint names, got {bad}")
    return tuple((str(a), str(b)) for a, b in pairs)


def _flip_pairs_by_name(keypoints: Sequence[str]) -> tuple[Pair, ...]:
    rights = {name.replace("left", "right", 1): name for name in keypoints if "left" in name}
    return tuple((left, right) for right, left in rights.items() if right in keypoints)


def _sigma_by_name(keypoint: str) -> float:
    return _COCO_SIGMAS.get(keypoint.removeprefix("left_").removeprefix("right_"), _FALLBACK_SIGMA)


def _torso_outward(keypoints: Sequence[str], limbs: Sequence[Pair]) -> tuple[str, ...]:
    """All keypoints, breadth first along the limbs from the torso.

    If no name contains a word of the torso, the search starts at the keypoint with the most limbs.
    """
    neighbours: dict[str, list[str]] = {name: [] for name in keypoints}
    for a, b in limbs:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    order = [name for name in keypoints if any(word in name for word in _TORSO_WORDS)]
    order = order or [max(keypoints, key=lambda name: len(neighbours[name]))]
    for visited in order:  # grows during the search
        order += dict.fromkeys(name for name in neighbours[visited] if name not in order)
    return tuple(order + [name for name in keypoints if name not in order])


def _sided(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


def _mirrored(*limbs: Pair) -> tuple[Pair, ...]:
    return tuple((f"{side}_{a}", f"{side}_{b}") for a, b in limbs for side in ("left", "right"))


_COCO_NAMES = ("nose", *_sided("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
_LIMB_CHAINS = (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"),
)  # fmt: skip
_GIRDLES = (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"))

COCO = Skeleton(
    name="coco",
    keypoints=_COCO_NAMES,
    flip_pairs=_flip_pairs_by_name(_COCO_NAMES),
    limbs=(
        ("nose", "left_eye"), ("nose", "right_eye"),
        *_mirrored(("eye", "ear"), ("ear", "shoulder"), *_LIMB_CHAINS), *_GIRDLES,
    ),
    sigmas=tuple(map(_sigma_by_name, _COCO_NAMES)),
    grouping_order=("nose", *_sided("eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle")),
)  # fmt: skip
"""COCO's 17 keypoints; the grouping order is HigherHRNet's and SWAHR's."""

_CROWDPOSE_NAMES = (*_sided("shoulder", "elbow", "wrist", "hip", "knee", "ankle"), "head", "neck")

CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=_CROWDPOSE_NAMES,
    flip_pairs=_flip_pairs_by_name(_CROWDPOSE_NAMES),
    limbs=(
        ("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder"),
        *_mirrored(*_LIMB_CHAINS), *_GIRDLES,
    ),
    sigmas=tuple(map(_sigma_by_name, _CROWDPOSE_NAMES)),
    grouping_order=tuple(_CROWDPOSE_NAMES[i] for i in (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13)),
)  # fmt: skip
"""CrowdPose's 14 keypoints; the grouping order is the official code's."""
