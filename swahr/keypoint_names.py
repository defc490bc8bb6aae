"""What follows from the names of keypoints: sides and flip pairs, OKS sigmas and a grouping order."""

import re
from collections.abc import Sequence

Pair = tuple[str, str]

_COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "head": 0.079, "neck": 0.079,
}  # fmt: skip
_FALLBACK_SIGMA = 0.067  # the mean of COCO's seventeen
_TORSO_WORDS = ("torso", "pelvis", "spine", "chest", "thorax", "neck", "shoulder", "hip")

MIRROR = {"left": "right", "right": "left"}
LETTERS = {"l": "left", "r": "right"}
"""Words that are sides, and letters that stand for them."""
_NOT_SIDES = ("bright", "cleft", "upright")
_WORD_ENDS = re.compile(  # separators and brackets; between "left" and "Eye", "L" and "Eye", "eye" and "2"
    r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"
)


def words_of(name: str) -> list[str]:
    """The words of a keypoint's name in lower case, e.g. "left", "eye" for ``LeftEye`` and ``lefteye``."""
    words = [word.lower() for word in _WORD_ENDS.split(name) if word]
    split = [[word] if word in _NOT_SIDES else re.split("(left|right)", word) for word in words]
    return [part for parts in split for part in parts if part]


def sides_of(name: str) -> set[str]:
    """``left`` or ``right``, or both, if a keypoint's name contains them or their letters."""
    return set(_sided_words(name)) & MIRROR.keys()


def lone_sides(names: Sequence[str], *, letters: bool) -> tuple[str, ...]:
    """Of names without a mirror image, those with sides as words, or with ``letters`` only as letters."""
    sides = {name: set(words_of(name)) for name in names}
    named = {name for name, words in sides.items() if words & MIRROR.keys()}
    lettered = {name for name, words in sides.items() if words & LETTERS.keys()} - named
    return tuple(name for name in names if name in (lettered if letters else named))


def _sided_words(name: str) -> tuple[str, ...]:
    return tuple(LETTERS.get(word, word) for word in words_of(name))


def flip_pairs_by_name(keypoints: Sequence[str]) -> tuple[Pair, ...]:
    """The (left, right) names whose words agree when all sides are exchanged, if they are unambiguous."""
    by_words: dict[tuple[str, ...], list[str]] = {}
    for name in keypoints:
        by_words.setdefault(_sided_words(name), []).append(name)
    pairs = []
    for words, lefts in by_words.items():
        rights = by_words.get(tuple(MIRROR.get(word, word) for word in words), [])
        side = next((word for word in words if word in MIRROR), None)
        if side == "left" and len(lefts) == len(rights) == 1:
            pairs.append((lefts[0], rights[0]))
    return tuple(pairs)


def sigma_by_name(keypoint: str) -> float:
    """COCO's OKS constant of the body part, whatever its side; a mean for parts that COCO does not have."""
    part = "_".join(word for word in _sided_words(keypoint) if word not in MIRROR)
    return _COCO_SIGMAS.get(part, _FALLBACK_SIGMA)


def torso_outward(keypoints: Sequence[str], limbs: Sequence[Pair]) -> tuple[str, ...]:
    """All keypoints, breadth first along the limbs from the torso.

    If no name contains a word of the torso, the search starts at the keypoint with the most limbs.
    """
    neighbours: dict[str, list[str]] = {name: [] for name in keypoints}
    for a, b in limbs:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    order = [name for name in keypoints if any(word in name.lower() for word in _TORSO_WORDS)]
    order = order or [max(keypoints, key=lambda name: len(neighbours[name]))]
    for visited in order:  # grows during the search
        order += dict.fromkeys(name for name in neighbours[visited] if name not in order)
    return tuple(order + [name for name in keypoints if name not in order])
