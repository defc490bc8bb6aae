"""Skeletons: a person's keypoints and everything that is defined on them by name.

`COCO` (17 keypoints) and `CROWDPOSE` (14) are defined here. Others are read from the ``categories`` entry of
a COCO-format file (`Skeleton.from_category`) or from YAML (`Skeleton.from_yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import yaml

from swahr.files import integer
from swahr.keypoint_names import (
    LETTERS,
    MIRROR,
    Pair,
    flip_pairs_by_name,
    sigma_by_name,
    torso_outward,
    words_of,
)


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
        if len(self.sigmas) != len(names) or not all(0 < sigma <= 1 for sigma in self.sigmas):
            raise ValueError(f"{where}: expected {len(names)} positive sigmas up to 1, got {self.sigmas}")
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

    def lone_sides(self, *, letters: bool = False) -> tuple[str, ...]:
        """The keypoints without a mirror image whose names contain the words left or right.

        With ``letters``, those with only the letters l or r instead, which may mean something else: L5 is
        also a vertebra.
        """
        paired = {name for pair in self.flip_pairs for name in pair}
        sides = {name: set(words_of(name)) for name in self.keypoints if name not in paired}
        named = {name for name, words in sides.items() if words & MIRROR.keys()}
        lettered = {name for name, words in sides.items() if words & LETTERS.keys()} - named
        return tuple(name for name in self.keypoints if name in (lettered if letters else named))

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

        Defaults: flip pairs by the sides in the names (the words ``left`` and ``right`` or the letters ``l``
        and ``r``, as in ``left_eye``, ``LeftEye`` or ``eye.l``), COCO's sigmas by the names without sides,
        and a grouping order from the torso outwards along the limbs. ``source`` begins error messages.

        Raises:
            ValueError: ``keypoints`` is missing, a key is unknown, or values are malformed or inconsistent.
        """
        allowed = {field.name for field in fields(cls)}
        if unknown := sorted(map(str, set(values) - allowed)):
            raise ValueError(f"{source}: unknown keys {unknown}; expected some of {sorted(allowed)}")
        given = {key: value for key, value in values.items() if value is not None}
        try:
            keypoints = _as_names("keypoints", given.get("keypoints"))
            limbs = _as_pairs("limbs", given.get("limbs", ()))
            order = given.get("grouping_order")
            return cls(
                name=str(given.get("name", "person")),
                keypoints=keypoints,
                flip_pairs=_as_pairs("flip_pairs", given.get("flip_pairs", flip_pairs_by_name(keypoints))),
                limbs=limbs,
                sigmas=_as_sigmas(given.get("sigmas", [*map(sigma_by_name, keypoints)])),
                grouping_order=torso_outward(keypoints, limbs)
                if order is None
                else _as_names("grouping_order", order),
            )
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> Skeleton:
        """Read a YAML file with ``keypoints`` and, optionally, the other fields (see `from_dict`)."""
        try:
            values = yaml.safe_load(Path(path).read_bytes())
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: expected YAML, but it does not parse ({error}); correct it") from error
        if not isinstance(values, dict):
            raise TypeError(f"{path}: expected a YAML mapping with 'keypoints', got {type(values).__name__}")
        return cls.from_dict({"name": Path(path).stem, **values}, source=str(path))

    @classmethod
    def from_category(cls, category: Mapping[str, Any], *, source: str = "annotations") -> Skeleton:
        """Read the ``categories`` entry of a COCO-format file.

        The entry gives the limbs in ``skeleton``, as pairs of 1-based indices or of names, and, optionally,
        ``flip_pairs``, ``sigmas`` and ``grouping_order``. For COCO's and CrowdPose's keypoint names, what is
        missing is that of `COCO` and `CROWDPOSE`, and their own files give exactly these: the limbs of the
        published files are not used, because COCO's connect the eyes, and CrowdPose's are COCO's.

        Raises:
            ValueError: no keypoints, limbs that point outside them, or malformed or inconsistent values.
        """
        try:
            names = _as_names("keypoints", category.get("keypoints"))
            known = next((skeleton for skeleton in (COCO, CROWDPOSE) if skeleton.keypoints == names), None)
            limbs = _limbs_by_name(category.get("skeleton") or (), names)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        given = {key: category.get(key) for key in ("name", "flip_pairs", "sigmas", "grouping_order")}
        given = {key: value for key, value in given.items() if value is not None}
        if known is None:
            return cls.from_dict({**given, "keypoints": names, "limbs": limbs}, source=source)
        given |= {"limbs": limbs} if limbs else {}
        own = cls.from_dict({**known.to_dict(), "name": "person", **given}, source=source)
        for field in ("flip_pairs", "limbs"):  # in any order
            if _unordered(getattr(own, field)) == _unordered(getattr(known, field)):
                own = replace(own, **{field: getattr(known, field)})
        return known if replace(own, name=known.name) == known else own


def _as_names(field: str, names: Any) -> tuple[str, ...]:
    if not names or not isinstance(names, list | tuple) or not all(map(_is_name, names)):
        raise ValueError(f"expected a list '{field}' of names, got {shown(names)}; correct it")
    return tuple(map(str, names))


def _is_name(name: Any) -> bool:
    return isinstance(name, str | int) and not isinstance(name, bool)


def _as_pairs(field: str, pairs: Any) -> tuple[Pair, ...]:
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        raise ValueError(f"expected a list '{field}' of pairs of names, got {shown(pairs)}; correct it")
    return tuple((str(a), str(b)) for a, b in pairs)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_name, pair))


def _as_sigmas(sigmas: Any) -> tuple[float, ...]:
    if not isinstance(sigmas, list | tuple) or not all(map(_is_fraction, sigmas)):
        raise ValueError(f"expected a list 'sigmas' of numbers from 0 to 1, got {shown(sigmas)}; correct it")
    return tuple(map(float, sigmas))


def _is_fraction(number: Any) -> bool:
    return isinstance(number, int | float) and 0 <= number <= 1


def _unordered(pairs: Sequence[Sequence[Any]]) -> set[frozenset[Any]]:
    return set(map(frozenset, pairs))


def _limbs_by_name(limbs: Any, names: tuple[str, ...]) -> list[Pair]:
    """The limbs of a category, by name; none if they are those of COCO's and CrowdPose's own files."""
    if not isinstance(limbs, list | tuple) or not all(map(_is_limb, limbs)):
        raise ValueError(f"expected 1-based index pairs in the category's skeleton, got {shown(limbs)}")
    eyes, pairs = (2, 3), _unordered(limbs)
    published = _unordered([*((a + 1, b + 1) for a, b in COCO.limb_indices), eyes])
    copied = pairs <= published and any(end > len(names) for limb in limbs for end in limb)
    if (names == COCO.keypoints and pairs == published) or (names == CROWDPOSE.keypoints and copied):
        return []
    return [(_limb_end(a, names), _limb_end(b, names)) for a, b in limbs]


def _is_limb(limb: Any) -> bool:
    ends = limb if isinstance(limb, list | tuple) else ()
    return len(ends) == 2 and all(isinstance(end, str | int | float) for end in ends)


def _limb_end(end: str | float, names: tuple[str, ...]) -> str:
    if end in names:
        return str(end)
    where = "the category's skeleton (1-based indices or names of keypoints)"
    if not 1 <= (index := integer(end, where)) <= len(names):
        raise ValueError(
            f"expected 1-based index pairs up to {len(names)} (the number of keypoints) in the category's "
            f"skeleton, got {index}; correct it"
        )
    return names[index - 1]


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
    flip_pairs=flip_pairs_by_name(_COCO_NAMES),
    limbs=(
        ("nose", "left_eye"), ("nose", "right_eye"),
        *_mirrored(("eye", "ear"), ("ear", "shoulder"), *_LIMB_CHAINS), *_GIRDLES,
    ),
    sigmas=tuple(map(sigma_by_name, _COCO_NAMES)),
    grouping_order=("nose", *_sided("eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle")),
)  # fmt: skip
"""COCO's 17 keypoints; the grouping order is HigherHRNet's and SWAHR's."""

_CROWDPOSE_NAMES = (*_sided("shoulder", "elbow", "wrist", "hip", "knee", "ankle"), "head", "neck")

CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=_CROWDPOSE_NAMES,
    flip_pairs=flip_pairs_by_name(_CROWDPOSE_NAMES),
    limbs=(
        ("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder"),
        *_mirrored(*_LIMB_CHAINS), *_GIRDLES,
    ),
    sigmas=tuple(map(sigma_by_name, _CROWDPOSE_NAMES)),
    grouping_order=tuple(_CROWDPOSE_NAMES[i] for i in (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13)),
)  # fmt: skip
"""CrowdPose's 14 keypoints; the grouping order is the official code's."""
