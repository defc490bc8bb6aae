# mypose/grouping.py
"""Greedy grouping: pairs of a peak and a person are matched in order of their tag distance."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swahr.grouping.people import People, images_of
from swahr.structures import Groups, Peaks


class GreedyGrouping:
    """Visits one keypoint type after the other. A peak without a near person starts a new person.

    Args:
        grouping_indices: the keypoint types in the order in which they are visited.
        tag_threshold: a peak can join a person whose mean tag is nearer than this.
    """

    def __init__(self, grouping_indices: Sequence[int], tag_threshold: float = 1.0) -> None:
        self.grouping_indices = tuple(grouping_indices)
        self.tag_threshold = tag_threshold

    def __call__(self, peaks: Peaks) -> list[Groups]:
        """Return the people of each image."""
        return [self._group(*image) for image in images_of(peaks, len(self.grouping_indices))]

    def _group(self, peaks: Float64[np.ndarray, "k m 3"], tags: Float32[np.ndarray, "k m t"]) -> Groups:
        found = peaks[..., 2] > 0  # (k m)
        people = People(int(found.sum()), peaks.shape[0], tags.shape[2])
        for keypoint in self.grouping_indices:
            own = found[keypoint]
            owner = self._owners(tags[keypoint, own], people.mean_tags(people.count))
            owner[owner < 0] = people.new(int((owner < 0).sum()))
            people.add(owner, keypoint, peaks[keypoint, own], tags[keypoint, own])
        return people.groups()

    def _owners(
        self, tags: Float32[np.ndarray, "c t"], means: Float32[np.ndarray, "p t"]
    ) -> Int64[np.ndarray, " c"]:
        distance = np.linalg.norm(tags[:, None] - means, axis=2)  # (c p)
        owner = np.full(len(tags), -1)
        for pair in np.argsort(distance, axis=None)[: np.count_nonzero(distance < self.tag_threshold)]:
            peak, person = np.unravel_index(pair, distance.shape)
            if owner[peak] < 0 and person not in owner:
                owner[peak] = person
        return owner
