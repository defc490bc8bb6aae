# mypose/grouping.py
"""Greedy grouping: pairs of a peak and a person are matched in order of their tag distance."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swahr.grouping import GroupingRule, People


class GreedyGrouping(GroupingRule):
    """A peak without a near person starts a new person.

    Args:
        grouping_indices: the keypoint types in the order in which they are visited.
        tag_threshold: a peak can join a person whose mean tag is nearer than this.
    """

    def __init__(self, grouping_indices: Sequence[int], tag_threshold: float = 1.0) -> None:
        super().__init__(grouping_indices)
        self.tag_threshold = tag_threshold

    def assign(
        self, people: People, scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> Int64[np.ndarray, " c"]:
        """Return the person that each of a keypoint type's c peaks joins, -1 for a new one."""
        distance = np.linalg.norm(tags[:, None] - people.mean_tags(people.count), axis=2)  # (c p)
        owner = np.full(len(tags), -1)
        for pair in np.argsort(distance, axis=None)[: np.count_nonzero(distance < self.tag_threshold)]:
            peak, person = np.unravel_index(pair, distance.shape)
            if owner[peak] < 0 and person not in owner:
                owner[peak] = person
        return owner
