"""Skeletons as plain values in files: what is read, what is filled in, and what is refused."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import yaml

from swahr.files import integer
from swahr.keypoint_names import Pair, flip_pairs_by_name, sigma_by_name, torso_outward

_FIELDS = ("name", "keypoints", "flip_pairs", "limbs", "sigmas", "grouping_order")


@contextmanager
def located(source: str) -> Iterator[None]:
    """Begin the messages of ValueErrors with the name of the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def read_skeleton(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, with its stem as the default name."""
    try:
        values = yaml.safe_load(Path(path).read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, but it does not parse ({error}); correct it") from error
    if not isinstance(values, dict):
        raise TypeError(f"{path}: expected a YAML mapping with 'keypoints', got {type(values).__name__}")
    return {"name": Path(path).stem, **values}


def skeleton_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `swahr.skeleton.Skeleton`, whose ``from_dict`` documents the defaults and errors."""
    if unknown := sorted(map(str, set(values) - set(_FIELDS))):
        raise ValueError(f"unknown keys {unknown}; expected some of {sorted(_FIELDS)}")
    given = {key: value for key, value in values.items() if value is not None}
    keypoints = _as_names("keypoints", given.get("keypoints"))
    limbs = _as_pairs("limbs", given.get("limbs", ()))
    order = given.get("grouping_order")
    return {
        "name": str(given.get("name", "person")),
        "keypoints": keypoints,
        "flip_pairs": _as_pairs("flip_pairs", given.get("flip_pairs", flip_pairs_by_name(keypoints))),
        "limbs": limbs,
        "sigmas": _as_sigmas(given.get("sigmas", [*map(sigma_by_name, keypoints)])),
        "grouping_order": torso_outward(keypoints, limbs)
        if order is None
        else _as_names("grouping_order", order),
    }


def check_consistent(fields: Mapping[str, Any]) -> None:
    """Raise ValueError if the fields of a skeleton contradict each other."""
    where, names = f"skeleton '{fields['name']}'", list(fields["keypoints"])
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{where}: expected distinct keypoint names, got {names}")
    for field in ("flip_pairs", "limbs"):
        if unknown := sorted({name for pair in fields[field] for name in pair} - set(names)):
            raise ValueError(
                f"{where}: {field} name {unknown}, but the keypoints are {names}; correct the names"
            )
    flipped = [name for pair in fields["flip_pairs"] for name in pair]
    if len(flipped) != len(set(flipped)):
        raise ValueError(f"{where}: expected no keypoint in two flip pairs, got {fields['flip_pairs']}")
    if len(sigmas := fields["sigmas"]) != len(names) or not all(0 < sigma <= 1 for sigma in sigmas):
        raise ValueError(f"{where}: expected {len(names)} positive sigmas up to 1, got {sigmas}")
    if sorted(order := fields["grouping_order"]) != sorted(names):
        raise ValueError(f"{where}: grouping_order must name every keypoint once, got {list(order)}")


def category_fields(
    category: Mapping[str, Any], *, coco: Mapping[str, Any], crowdpose: Mapping[str, Any]
) -> dict[str, Any]:
    """Values for `skeleton_fields` from a file's category; what is missing is that of a known skeleton.

    Args:
        category: the entry of ``categories``.
        coco: the fields of COCO's skeleton.
        crowdpose: the fields of CrowdPose's skeleton.
    """
    names = _as_names("keypoints", category.get("keypoints"))
    limbs = _limbs_by_name(category.get("skeleton") or (), names, coco, crowdpose)
    given = {key: category.get(key) for key in ("name", "flip_pairs", "sigmas", "grouping_order")}
    given = {key: value for key, value in given.items() if value is not None}
    known = next((one for one in (coco, crowdpose) if one["keypoints"] == names), None)
    if known is None:
        return {**given, "keypoints": names, "limbs": limbs}
    return {**known, "name": "person", **given, "limbs": limbs or known["limbs"]}


def category_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The ``categories`` entry of a COCO-format file; `category_fields` reads it back."""
    number = _numbers(fields)
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(fields["keypoints"]),
        "skeleton": [[number[a], number[b]] for a, b in fields["limbs"]],
        "flip_pairs": [list(pair) for pair in fields["flip_pairs"]],
        "sigmas": list(fields["sigmas"]),
        "grouping_order": list(fields["grouping_order"]),
    }


def _numbers(fields: Mapping[str, Any]) -> dict[str, int]:
    """The 1-based index of each keypoint."""
    return {name: number for number, name in enumerate(fields["keypoints"], start=1)}


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


def unordered(pairs: Sequence[Sequence[Any]]) -> set[frozenset[Any]]:
    """Pairs without their order, and that of their ends."""
    return set(map(frozenset, pairs))


def _limbs_by_name(
    limbs: Any, names: tuple[str, ...], coco: Mapping[str, Any], crowdpose: Mapping[str, Any]
) -> list[Pair]:
    """The limbs of a category, by name; none if they are those of COCO's and CrowdPose's own files."""
    if not isinstance(limbs, list | tuple) or not all(map(_is_limb, limbs)):
        raise ValueError(f"expected 1-based index pairs in the category's skeleton, got {shown(limbs)}")
    eyes, pairs = (2, 3), unordered(limbs)
    number = _numbers(coco)
    published = unordered([*((number[a], number[b]) for a, b in coco["limbs"]), eyes])
    copied = pairs <= published and any(end > len(names) for limb in limbs for end in limb)
    if (names == coco["keypoints"] and pairs == published) or (names == crowdpose["keypoints"] and copied):
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
