"""Grouping by associative embedding: peaks are assigned to people by tags, one keypoint type at a time.

Newell et al., "Associative Embedding", NeurIPS 2017, section 3.3: the peaks of each keypoint type are
assigned to the people found so far by minimum total tag distance. A peak without a match starts a new person.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.optimize import linear_sum_assignment

from swahr.grouping.people import GroupingRule, People

_DISTANCE_COST = 100.0  # cost of a unit of rounded distance, so that scores (at most about 1) only break ties
_PROHIBITIVE = 1e10  # needs float64: in float32 it would absorb the score

Costs = Float64[np.ndarray, "c p"]
Pairs = tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]
"""Rows and columns of the assigned pairs, in order of rows."""


class GatedGrouping(GroupingRule):
    """Groups the peaks of every image into people by their tags.

    A pair of a peak and a person costs ``100 * round(distance) - score``, with the distance between the
    peak's tag and the person's mean tag. Rounding lets scores decide among people at similar distances;
    without it there are more false people.

    Pairs at ``tag_threshold`` or beyond are gated: they cannot be matched, and so never displace a good pair.
    All people take part, and people with equal tags stay apart. `OfficialGrouping` differs in all three.

    Args:
        grouping_indices: keypoint types in the order in which they are visited.
        tag_threshold: a peak can join a person whose mean tag is nearer than this.
        use_score: use the cost above; otherwise the plain distance.

    Raises:
        ValueError: ``grouping_indices`` does not hold every keypoint index once.
    """

    def __init__(
        self, grouping_indices: Sequence[int], tag_threshold: float = 1.0, use_score: bool = True
    ) -> None:
        super().__init__(grouping_indices)
        self.tag_threshold, self.use_score = tag_threshold, use_score

    def assign(
        self, people: People, scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> Int64[np.ndarray, " c"]:
        """Return the person that each candidate joins, -1 for a new one."""
        # Distances and costs of all pairs, (c p); gated pairs have a prohibitive cost.
        distance = tag_distances(tags, people.mean_tags(people.count))
        near = distance < self.tag_threshold
        cost = np.where(near, pair_costs(distance, scores, self.use_score), _PROHIBITIVE)
        return solve_assignment(linear_sum_assignment, cost, near)


def tag_distances(tags: Float32[np.ndarray, "c t"], means: Float32[np.ndarray, "p t"]) -> Costs:
    """Return the Euclidean distance between each candidate's tag and each person's mean tag."""
    return np.asarray(np.linalg.norm(tags[:, None].astype(np.float64) - means[None], axis=2))


def pair_costs(distance: Costs, scores: Float64[np.ndarray, " c"], use_score: bool) -> Costs:
    """Return the cost of each pair: ``100 * round(distance) - score``, or the distance itself."""
    return _DISTANCE_COST * np.round(distance) - scores[:, None] if use_score else distance


def solve_assignment(
    solve: Callable[[Float64[np.ndarray, "c q"]], Pairs], cost: Costs, near: Bool[np.ndarray, "c p"]
) -> Int64[np.ndarray, " c"]:
    """Return the person assigned to each candidate, -1 for none or for one that is not near.

    Raises:
        ValueError: a cost is NaN or infinite.
    """
    owner = np.full(len(cost), -1)
    if not cost.size:
        return owner
    if not np.isfinite(cost).all():
        raise ValueError("expected finite costs, got NaN or infinity; check the network's tags and heatmaps")
    # With fewer people than candidates, prohibitive spare columns are "no person".
    spare = max(0, cost.shape[0] - cost.shape[1])
    candidate, person = solve(np.pad(cost, ((0, 0), (0, spare)), constant_values=_PROHIBITIVE))
    matched = person < cost.shape[1]
    candidate, person = candidate[matched], person[matched]
    # The assignment is complete, and may therefore contain pairs that are too far apart.
    joins = near[candidate, person]
    owner[candidate[joins]] = person[joins]
    return owner
