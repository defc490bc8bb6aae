"""Skeletons: a person's keypoints and everything that is defined on them by name.

`COCO` (17 keypoints) and `CROWDPOSE` (14) are defined here. Others are read from the ``categories`` entry of
a COCO-format file (`Skeleton.from_category`) or from YAML (`Skeleton.from_yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from swahr.keypoint_names import Pair, flip_pairs_by_name, lone_sides, sigma_by_name
from swahr.skeleton_file import (
    category_fields,
    category_of,
    check_consistent,
    located,
    read_skeleton,
    skeleton_fields,
    unordered,
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
        check_consistent(self.to_dict())

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
        return lone_sides([name for name in self.keypoints if name not in paired], letters=letters)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for checkpoints; `from_dict` reads them back."""
        return asdict(self)

    def to_category(self) -> dict[str, Any]:
        """The ``categories`` entry of a COCO-format file; `from_category` reads it back."""
        return category_of(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "skeleton") -> Skeleton:
        """Build a skeleton from plain values; only ``keypoints`` is required.

        Defaults: flip pairs by the sides in the names (the words ``left`` and ``right`` or the letters ``l``
        and ``r``, as in ``left_eye``, ``LeftEye`` or ``eye.l``), COCO's sigmas by the names without sides,
        and a grouping order from the torso outwards along the limbs. ``source`` begins error messages.

        Raises:
            ValueError: ``keypoints`` is missing, a key is unknown, or values are malformed or inconsistent.
        """
        with located(source):
            return cls(**skeleton_fields(values))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Skeleton:
        """Read a YAML file with ``keypoints`` and, optionally, the other fields (see `from_dict`)."""
        return cls.from_dict(read_skeleton(path), source=str(path))

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
        with located(source):
            values = category_fields(category, coco=COCO.to_dict(), crowdpose=CROWDPOSE.to_dict())
        own = cls.from_dict(values, source=source)
        known = next((one for one in (COCO, CROWDPOSE) if one.keypoints == own.keypoints), own)
        for field in ("flip_pairs", "limbs"):  # in any order
            if unordered(getattr(own, field)) == unordered(getattr(known, field)):
                own = replace(own, **{field: getattr(known, field)})
        return known if replace(own, name=known.name) == known else own


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
