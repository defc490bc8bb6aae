"""Skeletons: which keypoints a person has, and everything that is said of them by name.

COCO (17 keypoints), CrowdPose (14) and any other, read from the ``categories`` entry of a COCO-format
file (`Skeleton.from_category`) or a small YAML (`Skeleton.from_yaml`). No other module knows a count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
    """An ordered set of keypoints, with flip pairs, limbs, OKS sigmas and grouping order, all by name.

    Attributes:
        name: how messages and files call it.
        keypoints: names, in the order of the annotation files.
        flip_pairs: (left, right) names that a mirror image exchanges.
        limbs: pairs of names to connect in drawings (and along which people are rendered).
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
        known = set(self.keypoints)
        if not self.keypoints or len(known) != len(self.keypoints):
            raise ValueError(
                f"skeleton '{self.name}': expected distinct keypoint names, got {list(self.keypoints)}"
            )
        for field, pairs in (("flip_pairs", self.flip_pairs), ("limbs", self.limbs)):
            if unknown := sorted({name for pair in pairs for name in pair} - known):
                raise ValueError(
                    f"skeleton '{self.name}': {field} name {unknown}, but the keypoints are "
                    f"{list(self.keypoints)}; correct the names"
                )
        flipped = [name for pair in self.flip_pairs for name in pair]
        if len(flipped) != len(set(flipped)):
            raise ValueError(
                f"skeleton '{self.name}': a keypoint stands in two flip pairs: {self.flip_pairs}"
            )
        if len(self.sigmas) != len(self.keypoints) or min(self.sigmas) <= 0:
            raise ValueError(
                f"skeleton '{self.name}': expected {len(self.keypoints)} positive sigmas, got {self.sigmas}"
            )
        if sorted(self.grouping_order) != sorted(self.keypoints):
            raise ValueError(
                f"skeleton '{self.name}': grouping_order must name every keypoint once, got "
                f"{list(self.grouping_order)}"
            )

    @property
    def num_keypoints(self) -> int:
        """The number of keypoints, ``k``."""
        return len(self.keypoints)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """For each keypoint the index of its mirror image (itself when it has none)."""
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return tuple(self.keypoints.index(partner.get(name, name)) for name in self.keypoints)

    @property
    def limb_indices(self) -> tuple[tuple[int, int], ...]:
        """Limbs as pairs of keypoint indices."""
        return tuple((self.keypoints.index(a), self.keypoints.index(b)) for a, b in self.limbs)

    @property
    def grouping_indices(self) -> tuple[int, ...]:
        """Keypoint indices in the order in which grouping visits them."""
        return tuple(self.keypoints.index(name) for name in self.grouping_order)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints; `from_dict` reads them back."""
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
        """Build a skeleton from plain values; everything but ``keypoints`` may be left out.

        Defaults: flip pairs from the prefixes ``left_`` / ``right_``, sigmas from COCO by name, grouping from
        the torso outward along the limbs.

        Raises:
            ValueError: ``keypoints`` is missing, a key is unknown, or names are inconsistent.
        """
        allowed = {"name", "keypoints", "flip_pairs", "limbs", "sigmas", "grouping_order"}
        if unknown := sorted(set(values) - allowed):
            raise ValueError(f"{source}: unknown keys {unknown}; expected some of {sorted(allowed)}")
        if not values.get("keypoints"):
            raise ValueError(
                f"{source}: expected a list 'keypoints' of names, got {values.get('keypoints')!r}"
            )
        keypoints = tuple(str(name) for name in values["keypoints"])
        limbs = _as_pairs(values.get("limbs") or ())
        flip_pairs = values.get("flip_pairs")
        sigmas = values.get("sigmas")
        order = values.get("grouping_order")
        return cls(
            name=str(values.get("name", "person")),
            keypoints=keypoints,
            flip_pairs=_flip_pairs_by_name(keypoints) if flip_pairs is None else _as_pairs(flip_pairs),
            limbs=limbs,
            sigmas=tuple(map(_sigma_by_name, keypoints)) if sigmas is None else tuple(map(float, sigmas)),
            grouping_order=_torso_outward(keypoints, limbs) if order is None else tuple(map(str, order)),
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

        The keypoint names decide: COCO's and CrowdPose's names give `COCO` and `CROWDPOSE` (CrowdPose's own
        files carry COCO's limbs, which do not fit). Otherwise ``skeleton`` gives the limbs (1-based index
        pairs), and the optional extra keys ``flip_pairs``, ``sigmas`` and ``grouping_order`` the rest.

        Raises:
            ValueError: no keypoints, or limbs that point outside them.
        """
        names = tuple(category.get("keypoints") or ())
        for known in (COCO, CROWDPOSE):
            if names == known.keypoints:
                return known
        for pair in category.get("skeleton") or ():
            if len(pair) != 2 or not all(1 <= int(i) <= len(names) for i in pair):
                raise ValueError(
                    f"{source}: the category's skeleton holds {list(pair)}; expected 1-based index pairs up "
                    f"to {len(names)}, the number of keypoint names"
                )
        values: dict[str, Any] = {
            "name": category.get("name", "person"),
            "keypoints": names,
            "limbs": [(names[int(a) - 1], names[int(b) - 1]) for a, b in category.get("skeleton") or ()],
        }
        values |= {
            key: category[key] for key in ("flip_pairs", "sigmas", "grouping_order") if key in category
        }
        return cls.from_dict(values, source=source)


def _as_pairs(pairs: Sequence[Sequence[str]]) -> tuple[Pair, ...]:
    if bad := [pair for pair in pairs if len(pair) != 2]:
        raise ValueError(f"expected pairs of keypoint names, got {bad}")
    return tuple((str(a), str(b)) for a, b in pairs)


def _flip_pairs_by_name(keypoints: Sequence[str]) -> tuple[Pair, ...]:
    rights = {name.replace("left", "right", 1): name for name in keypoints if "left" in name}
    return tuple((left, right) for right, left in rights.items() if right in keypoints)


def _sigma_by_name(keypoint: str) -> float:
    part = keypoint.removeprefix("left_").removeprefix("right_")
    return _COCO_SIGMAS.get(part, _FALLBACK_SIGMA)


def _torso_outward(keypoints: Sequence[str], limbs: Sequence[Pair]) -> tuple[str, ...]:
    """Breadth first along the limbs from the torso (or, if no name says torso, from the best connected)."""
    neighbours: dict[str, list[str]] = {name: [] for name in keypoints}
    for a, b in limbs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    roots = [name for name in keypoints if any(word in name for word in _TORSO_WORDS)]
    queue = deque(roots or [max(keypoints, key=lambda name: len(neighbours[name]))])
    order = list(queue)
    while queue:
        fresh = [name for name in neighbours[queue.popleft()] if name not in order]
        order += dict.fromkeys(fresh)
        queue += dict.fromkeys(fresh)
    return tuple(order + [name for name in keypoints if name not in order])


def _sided(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


def _mirrored(*limbs: Pair) -> tuple[Pair, ...]:
    return tuple((f"{side}_{a}", f"{side}_{b}") for a, b in limbs for side in ("left", "right"))


_COCO_NAMES = ("nose", *_sided("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
_LIMB_CHAINS = (
    ("shoulder", "elbow"),
    ("elbow", "wrist"),
    ("shoulder", "hip"),
    ("hip", "knee"),
    ("knee", "ankle"),
)
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
    grouping_order=(
        "nose", *_sided("eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle"),
    ),
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
