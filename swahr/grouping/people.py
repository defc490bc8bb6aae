"""State of a grouping rule: the people of one image while peaks are assigned to them."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swahr.structures import Groups, Peaks


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


def check_grouping_indices(grouping_indices: Sequence[int]) -> None:
    """Raise ValueError unless ``grouping_indices`` holds every keypoint index once."""
    if sorted(grouping_indices) != list(range(len(grouping_indices))):
        raise ValueError(
            f"expected every keypoint index once in grouping_indices, got {tuple(grouping_indices)}"
        )


def images_of(
    peaks: Peaks, keypoints: int
) -> Iterator[tuple[Float64[np.ndarray, "k m 3"], Float32[np.ndarray, "k m t"]]]:
    """Yield each image's peaks as (x, y, score), and their tags, on the CPU.

    Raises:
        ValueError: the peaks have another number of keypoint types than ``keypoints``.
    """
    if peaks.scores.shape[1] != keypoints:
        raise ValueError(
            f"expected peaks of {keypoints} keypoints (grouping_indices), got {peaks.scores.shape[1]}; "
            "build the network and the grouping from the same skeleton"
        )
    parts = [peaks.positions, peaks.scores[..., None]]
    located = np.concatenate([part.float().cpu().numpy() for part in parts], axis=-1).astype(np.float64)
    yield from zip(located, peaks.tags.float().cpu().numpy(), strict=True)
