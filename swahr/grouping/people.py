"""The visit of keypoint types, which all grouping rules share, and the people of one image found by it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swahr.structures import Groups, Peaks


class GroupingRule(ABC):
    """Groups peaks into people, one keypoint type at a time, each peak by its tag.

    The peaks of a keypoint type are its ``c`` candidates: ``peaks`` (x, y, score) and ``tags``. A rule says
    which of the people found so far each of them joins; the others start new people.

    Args:
        grouping_indices: keypoint types in the order in which they are visited.

    Raises:
        ValueError: ``grouping_indices`` does not hold every keypoint index once.
    """

    def __init__(self, grouping_indices: Sequence[int]) -> None:
        if sorted(grouping_indices) != list(range(len(grouping_indices))):
            raise ValueError(
                f"expected every keypoint index once in grouping_indices, got {tuple(grouping_indices)}"
            )
        self.grouping_indices = tuple(grouping_indices)

    @abstractmethod
    def assign(
        self, people: "People", scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> Int64[np.ndarray, " c"]:
        """Return the person that each candidate joins, -1 for a new one."""

    def __call__(self, peaks: Peaks) -> list[Groups]:
        """Return the people of each image, in order of discovery. Frame: map.

        Raises:
            ValueError: the number of keypoints differs from ``grouping_indices``, a tag is NaN, or the cost
                of a pair is not finite.
        """
        if peaks.scores.shape[1] != len(self.grouping_indices):
            raise ValueError(
                f"expected peaks of {len(self.grouping_indices)} keypoints (grouping_indices), got "
                f"{peaks.scores.shape[1]}; build the network and the grouping from the same skeleton"
            )
        parts = [peaks.positions, peaks.scores[..., None]]
        located = np.concatenate([part.float().cpu().numpy() for part in parts], axis=-1).astype(np.float64)
        tags = peaks.tags.float().cpu().numpy()
        if np.isnan(tags).any():  # infinite ones are far from all others
            raise ValueError("expected tags to group by, got NaN; check the network's weights and inputs")
        return [self._group(*image) for image in zip(located, tags, strict=True)]

    def _group(self, peaks: Float64[np.ndarray, "k m 3"], tags: Float32[np.ndarray, "k m t"]) -> Groups:
        found = peaks[..., 2] > 0  # (k m)
        people = People(int(found.sum()), peaks.shape[0], tags.shape[2])
        for keypoint in self.grouping_indices:
            own = found[keypoint]
            self.visit(people, keypoint, peaks[keypoint, own], tags[keypoint, own])
        return people.groups()

    def visit(
        self,
        people: "People",
        keypoint: int,
        peaks: Float64[np.ndarray, "c 3"],
        tags: Float32[np.ndarray, "c t"],
    ) -> None:
        """Add each candidate to the person that it joins or starts."""
        owner = self.assign(people, peaks[:, 2], tags)
        owner[owner < 0] = people.new(int((owner < 0).sum()))
        people.add(owner, keypoint, peaks, tags)


class People:
    """The people found so far in one image. Frame: map.

    All arrays are preallocated for ``capacity`` people; their first ``count`` rows are in use.

    Attributes:
        count: number of people found so far.
        peaks: (x, y, score) of each person's keypoints; score 0 where missing.
        keypoint_tags: tag of each person's keypoints.
        tags: tags of each person in the order in which they were added.
        number: for each person how many of ``tags`` are averaged to the mean tag.
    """

    def __init__(self, capacity: int, keypoints: int, tag_dimensions: int) -> None:
        shape = (capacity, keypoints, tag_dimensions)
        self.count = 0
        self.peaks: Float64[np.ndarray, "n k 3"] = np.zeros((capacity, keypoints, 3))
        self.keypoint_tags: Float32[np.ndarray, "n k t"] = np.zeros(shape, dtype=np.float32)
        self.tags: Float32[np.ndarray, "n k t"] = np.zeros(shape, dtype=np.float32)
        self.number: Int64[np.ndarray, " n"] = np.zeros(capacity, dtype=np.int64)

    def new(self, count: int) -> Int64[np.ndarray, " c"]:
        """Create ``count`` people without keypoints and return their indices."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def add(
        self,
        person: Int64[np.ndarray, " c"],
        keypoint: int,
        peaks: Float64[np.ndarray, "c 3"],
        tags: Float32[np.ndarray, "c t"],
    ) -> None:
        """Add a peak of keypoint type ``keypoint`` to each of ``c`` different people."""
        self.peaks[person, keypoint] = peaks
        self.keypoint_tags[person, keypoint] = tags
        self.tags[person, self.number[person]] = tags
        self.number[person] += 1

    def mean_tags(self, count: int) -> Float32[np.ndarray, "p t"]:
        """Return the mean tags of the first ``count`` people."""
        return _means(self.tags[:count], self.number[:count])

    def groups(self) -> Groups:
        """Return the people in order of discovery, with the mean tag of their keypoints."""
        peaks, tags = self.peaks[: self.count], self.keypoint_tags[: self.count]
        present = peaks[..., 2] > 0
        present_first = np.argsort(~present, axis=1, kind="stable")
        tags = np.take_along_axis(tags, present_first[..., None], axis=1)
        mean = _means(tags, present.sum(axis=1)).astype(np.float64)
        return Groups(positions=peaks[..., :2], scores=peaks[..., 2], present=present, tag=mean)


def _means(tags: Float32[np.ndarray, "p k t"], number: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, "p t"]:
    """Return the mean of each person's first ``number`` tags, in one step for people with the same number."""
    means = np.empty((len(tags), tags.shape[2]), dtype=np.float32)
    for count in np.unique(number).tolist():
        chosen = np.flatnonzero(number == count)
        means[chosen] = tags[chosen, :count].mean(axis=1)
    return means
