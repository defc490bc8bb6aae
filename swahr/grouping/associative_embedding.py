"""Assemble peaks into people by their tags, one keypoint type after the other.

Newell et al., "Associative Embedding", 2017, section 3.3: the peaks of the next keypoint type are assigned to
the people found so far by minimum total distance between tags; a peak that fits nobody founds a new person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.optimize import linear_sum_assignment

from swahr.grouping.munkres import munkres_pairs
from swahr.structures import Groups, Peaks

Rule = Literal["gated", "official"]
Solver = Literal["scipy", "munkres"]
Pairs = tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]

_DISTANCE_COST = (
    100.0  # of one unit of rounded tag distance, so that scores (at most about 1) only break ties
)
_PROHIBITIVE = 1e10  # needs float64: in float32 it would swallow the score


class _People:
    """The people of one image, being assembled.

    Of the ``count`` first: per keypoint (x, y, score) and tag, and the ``number`` of tags that make up the
    mean, in the order in which they were added.
    """

    def __init__(self, most: int, keypoints: int, tag_dimensions: int) -> None:
        self.count = 0
        self.peaks = np.zeros((most, keypoints, 3))
        self.keypoint_tags = np.zeros((most, keypoints, tag_dimensions), dtype=np.float32)
        self.tags = np.zeros_like(self.keypoint_tags)
        self.number = np.zeros(most, dtype=np.int64)

    def found(self, count: int) -> Int64[np.ndarray, " n"]:
        """Numbers of so many new people."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def founded_with(self, tag: np.float32) -> Int64[np.ndarray, " n"]:
        """Numbers of the people whose first tag has this first component."""
        return np.flatnonzero(self.tags[: self.count, 0, 0] == tag)

    def add(
        self,
        person: Int64[np.ndarray, " n"],
        keypoint: int,
        peaks: Float64[np.ndarray, "n 3"],
        tags: Float32[np.ndarray, "n t"],
    ) -> None:
        """Give a keypoint to different people."""
        self.peaks[person, keypoint] = peaks
        self.keypoint_tags[person, keypoint] = tags
        self.tags[person, self.number[person]] = tags
        self.number[person] += 1

    def means(self, count: int) -> Float32[np.ndarray, "p t"]:
        """The first ``count`` people's mean tags."""
        return _means(self.tags[:count], self.number[:count])

    def groups(self) -> Groups:
        """What was found, with the mean tag of each one's keypoints."""
        peaks, tags = self.peaks[: self.count], self.keypoint_tags[: self.count]
        present = peaks[..., 2] > 0
        present_first = np.argsort(~present, axis=1, kind="stable")
        tags = np.take_along_axis(tags, present_first[..., None], axis=1)
        means = _means(tags, present.sum(axis=1))
        return Groups(
            positions=peaks[..., :2], scores=peaks[..., 2], present=present, tag=means.astype(np.float64)
        )


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
        found = peaks[..., 2] > 0
        people = _People(int(found.sum()), peaks.shape[0], tags.shape[2])
        for keypoint in self.grouping_indices:
            if self.rule == "official" and self.stop_when_full and people.count >= self.max_people:
                break
            own = found[keypoint]
            candidates, candidate_tags = peaks[keypoint, own], tags[keypoint, own]
            owner = self._assign(people, candidates[:, 2], candidate_tags)
            if self.rule == "official" and self._merges(people, candidate_tags[owner < 0, 0]):
                self._add_in_turn(people, keypoint, owner, candidates, candidate_tags)
            else:
                owner[owner < 0] = people.found(int((owner < 0).sum()))
                people.add(owner, keypoint, candidates, candidate_tags)
        return people.groups()

    def _assign(
        self, people: _People, scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> Int64[np.ndarray, " c"]:
        """The person each candidate joins, -1 where it founds one."""
        matched = people.count if self.rule == "gated" else min(people.count, self.max_people)
        owners = np.full(len(scores), -1)
        if not matched or not len(scores):
            return owners
        distance = np.linalg.norm(tags[:, None].astype(np.float64) - people.means(matched)[None], axis=2)
        near = distance < self.tag_threshold
        rows, columns = self.solve(self._cost(distance, near, scores))
        joined = columns < matched
        rows, columns = rows[joined], columns[joined]
        joined = near[rows, columns]
        owners[rows[joined]] = columns[joined]
        return owners

    @staticmethod
    def _merges(people: _People, tags: Float32[np.ndarray, " c"]) -> bool:
        """Whether a founder's first tag is that of another, or of somebody's founder."""
        founding = np.concatenate([people.tags[: people.count, 0, 0], tags])
        return bool(len(tags)) and len(np.unique(founding)) < len(founding)

    @staticmethod
    def _add_in_turn(
        people: _People,
        keypoint: int,
        owner: Int64[np.ndarray, " c"],
        candidates: Float64[np.ndarray, "c 3"],
        tags: Float32[np.ndarray, "c t"],
    ) -> None:
        """As published: whoever has the founding tag of a person becomes that one, whose mean begins anew."""
        for i in range(len(owner)):
            person = owner[i : i + 1]
            if person[0] < 0:
                person = people.founded_with(tags[i, 0])[:1]
                if len(person):
                    people.number[person] = 0
                else:
                    person = people.found(1)
            people.add(person, keypoint, candidates[i : i + 1], tags[i : i + 1])

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


def _means(tags: Float32[np.ndarray, "p k t"], number: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, "p t"]:
    """The mean of each person's first ``number`` tags, computed at once for those who have equally many."""
    means = np.empty((len(tags), tags.shape[2]), dtype=np.float32)
    for count in np.unique(number).tolist():
        chosen = np.flatnonzero(number == count)
        means[chosen] = tags[chosen, :count].mean(axis=1)
    return means


def _solve_with_munkres(cost: Float64[np.ndarray, "c p"]) -> Pairs:
    rows, columns = np.array(munkres_pairs(cost), dtype=np.int64).reshape(-1, 2).T
    return rows, columns


_SOLVERS: dict[str, Callable[[Float64[np.ndarray, "c p"]], Pairs]] = {
    "scipy": linear_sum_assignment,
    "munkres": _solve_with_munkres,
}
