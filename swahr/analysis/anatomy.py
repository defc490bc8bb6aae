"""Implausible poses: limbs and joint angles that annotated people do not have.

Adversarial PoseNet (Chen et al., ICCV 2017) is meant to avoid such poses. This measures how many there are.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from swahr.coco_json import finite_numbers, present_keypoints, require_keys, require_triples
from swahr.skeleton import Skeleton

_LIMBS = 3  # the fewest of which a pose has a size: of three, one may be wrong
_FEWEST = 20  # people with a limb or an angle, without which it is not examined
_ROUNDS = 10  # of alternating medians; more change nothing
_BINS = 36  # of the circle
_ROUNDING = 1e-12  # the same pose elsewhere has limbs of the same length

Points = Float64[np.ndarray, "n k 2"]  # NaN where a keypoint is absent
Lengths = Float64[np.ndarray, "n l"]


@dataclass(frozen=True)
class Plausibility:
    """How many poses are implausible.

    Attributes:
        share: of the poses examined, those with an unusual limb or angle; None without any.
        examined: the number of poses with at least three limbs.
        skipped: the number of the other poses.
        by_part: in how many poses each limb or angle is unusual, without zeros.
    """

    share: float | None
    examined: int
    skipped: int
    by_part: dict[str, int]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The limbs and joint angles of annotated people, as seen in images; see `fit_anatomy`.

    Attributes:
        skeleton: the keypoints and limbs.
        typical: the typical length of each limb, in any unit. The size of a pose is the median of
            length / typical length over its limbs, so that one wrong limb hardly changes it.
        low: the shortest usual length of each limb in a pose of size 1; NaN where it is not known.
        high: the longest.
        usual: in which of 36 equal parts of the circle, from -180 degrees, each angle usually lies.
    """

    skeleton: Skeleton
    typical: Float64[np.ndarray, " l"]
    low: Float64[np.ndarray, " l"]
    high: Float64[np.ndarray, " l"]
    usual: Bool[np.ndarray, "a bins"]

    def of_results(self, results: Sequence[Mapping[str, Any]]) -> Plausibility:
        """The share of found poses with a limb or an angle that is not usual.

        Args:
            results: COCO results of the skeleton; a keypoint whose score is 0 is missing.

        Raises:
            ValueError: the keypoints of a result are not k triples of finite numbers.
        """
        triples = _triples(((f"result {i}", one) for i, one in enumerate(results)), self.skeleton)
        return self._examined(np.where(present_keypoints(triples)[..., None], triples[..., :2], np.nan))

    def of_annotations(self, truth: Mapping[str, Any]) -> Plausibility:
        """The same of the labelled keypoints of annotated people: the reference for found poses.

        Args:
            truth: COCO format, of the same skeleton.

        Raises:
            ValueError: no category has the skeleton's keypoints, or keypoints are malformed.
        """
        return self._examined(_annotated(truth, self.skeleton))

    def _examined(self, points: Points) -> Plausibility:
        lengths = _lengths(points, self.skeleton)
        sizes, ratios = _sizes(lengths, self.typical), _ratios(lengths, self.typical)
        limbs = (ratios < self.low) | (ratios > self.high) | (sizes == 0)[:, None] & (lengths >= 0)
        bins = _bins(points, self.skeleton)
        angles = (bins >= 0) & ~self.usual[np.arange(len(self.usual)), bins]
        known = ~np.isnan(sizes)
        outside = np.concatenate([limbs, angles], axis=1)[known]
        names = ["-".join(self.skeleton.keypoints[i] for i in part) for part in _parts(self.skeleton)]
        counts = dict(zip(names, outside.sum(axis=0).tolist(), strict=True))
        return Plausibility(
            share=float(outside.any(axis=1).mean()) if known.any() else None,
            examined=int(known.sum()),
            skipped=int((~known).sum()),
            by_part={name: count for name, count in counts.items() if count},
        )


def fit_anatomy(truth: Mapping[str, Any], skeleton: Skeleton, *, tail: float = 0.001) -> Anatomy:
    """Learn from annotations which limbs and joint angles are usual.

    A limb's usual lengths, relative to the size of the pose, lie between the quantiles ``tail`` and
    1 - ``tail``. The angle from one limb to another at the keypoint that they share is signed, from -180 to
    180 degrees. It may be usual on several arcs, so the circle is divided into 36 parts: all are usual but
    those where annotated angles are least dense, which hold at most twice ``tail`` of them. A part's density
    is that of itself and its two neighbours.

    With many limbs and angles, far more than ``tail`` of true poses have one outside: 4% of those of COCO's
    validation images by 10,000 training images. Compare with `Anatomy.of_annotations` of the test images, and
    learn from thousands of people: few do not show everything that is usual.

    Args:
        truth: COCO format, of training. Labelled keypoints are used, whether visible or not.
        skeleton: the keypoints and limbs.
        tail: the share of annotated people outside at either end, per limb and angle.

    Raises:
        ValueError: ``tail`` is not between 0 and 0.5, no category has the skeleton's keypoints, keypoints are
            malformed, or fewer than 20 people have three limbs.
    """
    if not 0 <= tail < 0.5:
        raise ValueError(f"expected a tail from 0 to below 0.5, got {tail}; use e.g. 0.001")
    points = _annotated(truth, skeleton)
    lengths = _lengths(points, skeleton)
    typical = _median(lengths, axis=0)
    for _ in range(_ROUNDS):
        typical = _median(_ratios(lengths, typical), axis=0)
    ratios = _ratios(lengths, typical)
    if (usable := np.count_nonzero((ratios >= 0).any(axis=1))) < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} annotated people with {_LIMBS} of the limbs of "
            f"skeleton '{skeleton.name}', got {usable}; use the annotations of more people, or add limbs"
        )
    low, high = np.array([_range(own[~np.isnan(own)], tail) for own in ratios.T]).T
    usual = [_usual(own[own >= 0], tail) for own in _bins(points, skeleton).T]
    return Anatomy(skeleton, typical, low, high, np.array(usual, dtype=bool).reshape(-1, _BINS))


def _annotated(truth: Mapping[str, Any], skeleton: Skeleton) -> Points:
    """The people whose category has the skeleton's keypoints, without crowd regions."""
    require_keys(truth, ("annotations", "categories"), "annotations")
    names = {str(one.get("id")): tuple(one.get("keypoints") or ()) for one in truth["categories"]}
    if skeleton.keypoints not in names.values():
        raise ValueError(
            f"expected annotations with the keypoints of skeleton '{skeleton.name}', got categories "
            f"with {list(names.values())}; use annotations of this skeleton"
        )
    people = []
    for one in truth["annotations"]:
        where = f"annotation {one.get('id')} of image {one.get('image_id')}"
        require_keys(one, ("category_id",), where)
        if names.get(str(one["category_id"])) == skeleton.keypoints and not one.get("iscrowd"):
            people.append((where, one))
    triples = _triples(people, skeleton)
    return np.where(triples[..., 2:] > 0, triples[..., :2], np.nan)


def _triples(
    entries: Iterable[tuple[str, Mapping[str, Any]]], skeleton: Skeleton
) -> Float64[np.ndarray, "n k 3"]:
    """The keypoints of entries, whose names begin error messages."""
    rows = []
    for where, entry in entries:
        rows.append(finite_numbers(entry.get("keypoints"), f"{where}: 'keypoints'"))
        require_triples(rows[-1], skeleton, where)
    return np.array(rows, dtype=np.float64).reshape(-1, skeleton.num_keypoints, 3)


def _parts(skeleton: Skeleton) -> list[tuple[int, ...]]:
    """The limbs, then the angles as (end, joint, other end): of all two limbs that share a keypoint."""
    angles = []
    for first, second in combinations(skeleton.limb_indices, 2):
        for joint in set(first) & set(second):
            ends = [one for limb in (first, second) for one in limb if one != joint]
            angles.append((ends[0], joint, ends[1]))
    return [*skeleton.limb_indices, *angles]


def _lengths(points: Points, skeleton: Skeleton) -> Lengths:
    starts, ends = np.array(skeleton.limb_indices, dtype=np.int64).reshape(-1, 2).T
    return np.asarray(np.linalg.norm(points[:, ends] - points[:, starts], axis=-1))


def _sizes(lengths: Lengths, typical: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " n"]:
    """The size of each pose; NaN with fewer than three limbs."""
    relative = lengths / np.where(typical > 0, typical, np.nan)
    enough = np.count_nonzero(~np.isnan(relative), axis=1) >= _LIMBS
    return np.where(enough, _median(relative, axis=1), np.nan)


def _ratios(lengths: Lengths, typical: Float64[np.ndarray, " l"]) -> Lengths:
    """Lengths relative to the size of the pose; NaN where that is 0 or not known."""
    sizes = _sizes(lengths, typical)
    return lengths / np.where(sizes > 0, sizes, np.nan)[:, None]


def _median(values: Lengths, *, axis: int) -> Float64[np.ndarray, " m"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the median of nothing is NaN
        return np.asarray(np.nanmedian(values, axis=axis))


def _bins(points: Points, skeleton: Skeleton) -> Int64[np.ndarray, "n a"]:
    """In which part of the circle each angle lies; -1 where it is not defined."""
    parts = _parts(skeleton)[len(skeleton.limbs) :]
    start, joint, end = np.array(parts, dtype=np.int64).reshape(-1, 3).T
    complex_points = points[..., 0] + 1j * points[..., 1]
    middle = complex_points[:, joint]
    turn = (complex_points[:, end] - middle) * (complex_points[:, start] - middle).conj()
    defined = np.abs(turn) > 0  # False for NaN
    turns = np.where(defined, np.angle(turn), 0.0) / (2 * np.pi) + 0.5
    return np.where(defined, np.floor(turns * _BINS) % _BINS, -1).astype(np.int64)  # 180 degrees are -180


def _range(lengths: Float64[np.ndarray, " n"], tail: float) -> Float64[np.ndarray, "2"]:
    if len(lengths) < _FEWEST:
        return np.full(2, np.nan)
    return np.asarray(np.quantile(lengths, [tail, 1 - tail]) * (1 - _ROUNDING, 1 + _ROUNDING))


def _usual(bins: Int64[np.ndarray, " n"], tail: float) -> Bool[np.ndarray, " bins"]:
    """All parts of the circle but the least dense, which hold at most twice ``tail`` of the angles."""
    counts = np.bincount(bins, minlength=_BINS)
    density = counts + np.roll(counts, 1) + np.roll(counts, -1)  # neighbours on the circle
    order = np.argsort(density, kind="stable")
    usual = np.ones(_BINS, dtype=bool)
    usual[order] = np.cumsum(counts[order]) > 2 * tail * len(bins)
    return usual if len(bins) >= _FEWEST else np.ones(_BINS, dtype=bool)
