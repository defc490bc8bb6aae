"""Assemble peaks into people by their tags, one keypoint type after the other.

Newell et al., "Associative Embedding", 2017, section 3.3: the peaks of the next keypoint type are assigned to
the people found so far by minimum total distance between tags; a peak that fits nobody founds a new person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.optimize import linear_sum_assignment

from swahr.grouping.munkres import munkres_pairs
from swahr.structures import Groups, Peaks

Rule = Literal["gated", "official"]
Solver = Literal["scipy", "munkres"]

_DISTANCE_COST = (
    100.0  # of one unit of rounded tag distance, so that scores (at most about 1) only break ties
)
_PROHIBITIVE = 1e10  # needs float64: in float32 it would swallow the score


@dataclass
class _Person:
    """A person being assembled: per keypoint (x, y, score), and the tags that make up the mean."""

    peaks: Float64[np.ndarray, "k 3"]
    keypoint_tags: Float32[np.ndarray, "k t"]
    tags: list[Float32[np.ndarray, " t"]] = field(default_factory=list)

    def add(self, keypoint: int, peak: Float64[np.ndarray, " 3"], tag: Float32[np.ndarray, " t"]) -> None:
        self.peaks[keypoint] = peak
        self.keypoint_tags[keypoint] = tag
        self.tags.append(tag)


class AssociativeEmbedding:
    """Group the peaks of every image into people by their tags.

    The cost of giving a peak to a person is ``100 * round(distance) - score``, where the distance is that
    between the peak's tag and the person's mean tag. The rounding is deliberate: it lets scores decide among
    people about equally near, and without it more people are invented.

    ``gated``: pairs at ``tag_threshold`` or beyond cannot be matched, so they never displace a good pair;
    every person takes part, and each is its own even when tags are equal.
    ``official``: as the published code does. Pairs beyond the threshold take part in the assignment and are
    rejected afterwards; only the first ``max_people`` people are matched, so that the peaks of all further
    ones found new people; a new person whose first tag component equals that of another's founding peak
    merges into it.

    Args:
        grouping_indices: the keypoint types in the order in which they are visited.
        tag_threshold: a peak may join a person whose mean tag is nearer than this.
        rule: ``gated`` or ``official``.
        solver: ``scipy`` (fast) or ``munkres`` (as the published code, see `swahr.grouping.munkres`). They
            agree on the total cost, but where several assignments are optimal they may return different ones.
        use_score: use the cost above; otherwise the plain distance.
        max_people: with ``official`` the number of people that take part in matching; ``gated`` ignores it.
        stop_when_full: with ``official``, pass over the keypoint types that are left once ``max_people``
            people have been found (the published code's IGNORE_TOO_MUCH); ``gated`` ignores it.

    Raises:
        ValueError: the rule, the solver or the keypoint order is not one of the possible ones.
    """

    def __init__(
        self,
        grouping_indices: Sequence[int],
        tag_threshold: float = 1.0,
        rule: Rule = "gated",
        solver: Solver = "scipy",
        use_score: bool = True,
        max_people: int = 30,
        stop_when_full: bool = False,
    ) -> None:
        if sorted(grouping_indices) != list(range(len(grouping_indices))):
            raise ValueError(
                f"expected grouping_indices to hold every keypoint index once, got {tuple(grouping_indices)}"
            )
        if rule not in ("gated", "official"):
            raise ValueError(f"expected rule 'gated' or 'official', got {rule!r}")
        if solver not in _SOLVERS:
            raise ValueError(f"expected solver {' or '.join(map(repr, _SOLVERS))}, got {solver!r}")
        self.grouping_indices = tuple(grouping_indices)
        self.tag_threshold = tag_threshold
        self.rule = rule
        self.solve = _SOLVERS[solver]
        self.use_score = use_score
        self.max_people = max_people
        self.stop_when_full = stop_when_full

    def __call__(self, peaks: Peaks) -> list[Groups]:
        """Return the people of each image, in order of discovery. Frame: map.

        Raises:
            ValueError: the peaks have another number of keypoints than ``grouping_indices``.
        """
        if peaks.scores.shape[1] != len(self.grouping_indices):
            raise ValueError(
                f"expected peaks of {len(self.grouping_indices)} keypoints (grouping_indices), got "
                f"{peaks.scores.shape[1]}; build the network and the grouping from the same skeleton"
            )
        scored = [peaks.positions, peaks.scores[..., None]]
        located = np.concatenate([part.float().cpu().numpy() for part in scored], axis=-1).astype(np.float64)
        tags = peaks.tags.float().cpu().numpy()
        return [self._group(*image) for image in zip(located, tags, strict=True)]

    def _group(self, peaks: Float64[np.ndarray, "k m 3"], tags: Float32[np.ndarray, "k m t"]) -> Groups:
        people: list[_Person] = []
        for keypoint in self.grouping_indices:
            if self.rule == "official" and self.stop_when_full and len(people) >= self.max_people:
                break
            found = peaks[keypoint, :, 2] > 0
            candidates, candidate_tags = peaks[keypoint, found], tags[keypoint, found]
            owners = self._assign(people, candidates[:, 2], candidate_tags)
            for peak, tag, owner in zip(candidates, candidate_tags, owners, strict=True):
                person = owner or self._found(people, tag, peaks.shape[0])
                person.add(keypoint, peak, tag)
        return _as_groups(people, peaks.shape[0], tags.shape[2])

    def _assign(
        self, people: list[_Person], scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> list[_Person | None]:
        """The person each candidate joins, None where it founds one."""
        matched = people if self.rule == "gated" else people[: self.max_people]
        owners: list[_Person | None] = [None] * len(scores)
        if not matched or not len(scores):
            return owners
        means = _means([person.tags for person in matched])
        distance = np.linalg.norm(tags[:, None].astype(np.float64) - means[None], axis=2)
        near = distance < self.tag_threshold
        for row, column in self.solve(self._cost(distance, near, scores)):
            if column < len(matched) and near[row, column]:
                owners[row] = matched[column]
        return owners

    def _cost(
        self,
        distance: Float64[np.ndarray, "c p"],
        near: Bool[np.ndarray, "c p"],
        scores: Float64[np.ndarray, " c"],
    ) -> Float64[np.ndarray, "c q"]:
        """Cost of every pair; columns are added until each candidate can have one (and found a person)."""
        cost = _DISTANCE_COST * np.round(distance) - scores[:, None] if self.use_score else distance
        if self.rule == "gated":
            cost = np.where(near, cost, _PROHIBITIVE)
        surplus = max(0, cost.shape[0] - cost.shape[1])
        return np.pad(cost, ((0, 0), (0, surplus)), constant_values=_PROHIBITIVE)

    def _found(self, people: list[_Person], tag: Float32[np.ndarray, " t"], keypoints: int) -> _Person:
        """A person without peaks yet: a new one, or (``official``) the one with the same founding tag."""
        if self.rule == "official":
            for person in people:
                if person.tags[0][0] == tag[0]:
                    person.tags.clear()
                    return person
        people.append(_Person(np.zeros((keypoints, 3)), np.zeros((keypoints, len(tag)), dtype=np.float32)))
        return people[-1]


def _as_groups(people: list[_Person], keypoints: int, tag_dimensions: int) -> Groups:
    peaks = np.stack([person.peaks for person in people]) if people else np.zeros((0, keypoints, 3))
    present = peaks[..., 2] > 0
    means = _means([list(p.keypoint_tags[own]) for p, own in zip(people, present, strict=True)])
    return Groups(
        positions=peaks[..., :2],
        scores=peaks[..., 2],
        present=present,
        tag=np.asarray(means, dtype=np.float64).reshape(len(people), tag_dimensions),
    )


def _means(tags: Sequence[list[Float32[np.ndarray, " t"]]]) -> Float32[np.ndarray, "p t"]:
    """Each person's mean tag, computed at once for those who have equally many."""
    counts = np.array([len(own) for own in tags], dtype=np.int64)
    means = np.empty((len(tags), len(tags[0][0])) if tags else (0, 0), dtype=np.float32)
    for count in np.unique(counts):
        chosen = np.flatnonzero(counts == count)
        stacked = np.concatenate([tags[i] for i in chosen.tolist()]).reshape(len(chosen), count, -1)
        means[chosen] = stacked.mean(axis=1)
    return means


def _solve_with_scipy(cost: Float64[np.ndarray, "c p"]) -> list[tuple[int, int]]:
    rows, columns = linear_sum_assignment(cost)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


_SOLVERS: dict[str, Callable[[Float64[np.ndarray, "c p"]], list[tuple[int, int]]]] = {
    "scipy": _solve_with_scipy,
    "munkres": munkres_pairs,
}
