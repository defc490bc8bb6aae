"""Parametric pose NMS (Fang et al., RMPE, ICCV 2017, section 3.3).

With the scores c and positions k of keypoints n, the similarity of a pose j to a reference i is::

    K = sum_n tanh(c_i^n / sigma_1) tanh(c_j^n / sigma_1)   over the keypoints of j within the box B(k_i^n)
    H = sum_n exp(-|k_i^n - k_j^n|^2 / sigma_2)             over the keypoints that both have
    similarity = K + lambda H                               j is eliminated if it is at least eta

The reference is the most confident pose that is left; what is similar to it is eliminated, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64

from swahr.structures import Poses

_NEGLIGIBLE = -700.0  # exp is many times slower where its result is denormal
_SMALLEST_SIDE = 1e-9  # in pixels, of the box of a person with one keypoint


class PoseNms:
    """A post-processing step that removes further poses of the same person.

    B is a square whose side is a tenth (``box``) of the longer side of the reference's bounding box. The
    paper divides both sides by ten, but a person seen from the side is so narrow that hardly any keypoint
    would lie in such a box. Poses of equal confidence are visited in the order in which they come.

    Args:
        sigma_score: sigma_1, the keypoint score at which a keypoint begins to count fully in K.
        sigma_distance: sigma_2, in squared sides of B if ``relative``, else in squared pixels of the image.
        distance_weight: lambda, the weight of H.
        threshold: eta, the similarity from which a pose is eliminated.
        matched: eliminate a pose with at least this many keypoints in B, too, however unsure they are; None
            for the similarity only, as in the paper.
        box: the side of B as a fraction of the longer side of the reference's bounding box.
        relative: whether distances are divided by the side of B, so that the same two poses in an enlarged
            image are equally similar; False for pixels, as published.

    Raises:
        ValueError: a number that must be positive is not.
    """

    def __init__(
        self,
        sigma_score: float = 1.0,
        sigma_distance: float = 0.5,
        distance_weight: float = 1.7,
        threshold: float = 12.0,
        matched: int | None = None,
        box: float = 0.1,
        relative: bool = True,
    ) -> None:
        self.sigma_score, self.sigma_distance = sigma_score, sigma_distance
        self.distance_weight, self.threshold = distance_weight, threshold
        self.matched, self.box, self.relative = matched, box, relative
        positive = {"sigma_score": sigma_score, "sigma_distance": sigma_distance, "threshold": threshold}
        positive |= {"box": box} if matched is None else {"box": box, "matched": matched}
        for name, value in positive.items():
            if value is None or not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: expected a positive, finite number")
        if distance_weight is None or not 0 <= distance_weight < math.inf:
            raise ValueError(f"distance_weight={distance_weight}: expected 0 or a positive, finite number")

    def settings(self) -> dict[str, float | None]:
        """The constructor's arguments."""
        return dict(vars(self))

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]], poses: list[Poses]) -> list[Poses]:  # noqa: ARG002 - of a step
        """Return the remaining poses of each image, in the order in which they came."""
        return [found.select(self.keep(self.compare([found]))) for found in poses]

    def compare(self, poses: Sequence[Poses]) -> Pairs:
        """The pairs of poses within each image, people numbered over all images."""
        parts, offset = [], 0
        for found in poses:
            parts.append(_pairs(found, offset, box=self.box, relative=self.relative))
            offset += len(found)
        return Pairs(
            first=np.concatenate([part.first for part in parts]),
            second=np.concatenate([part.second for part in parts]),
            scores=np.concatenate([part.scores for part in parts], axis=1),
            close=np.concatenate([part.close for part in parts], axis=1),
            squared_distances=np.concatenate([part.squared_distances for part in parts], axis=1),
        )

    def similarity(self, pairs: Pairs) -> Float64[np.ndarray, " n"]:
        """K + lambda H of every pair."""
        near = pairs.distance_similarity(self.sigma_distance)
        return pairs.score_similarity(self.sigma_score) + self.distance_weight * near

    def keep(
        self, pairs: Pairs, similarity: Float64[np.ndarray, " n"] | None = None
    ) -> Bool[np.ndarray, " p"]:
        """Who remains, of all people in ``pairs``; ``similarity`` is that of `similarity` if it is known."""
        same = (self.similarity(pairs) if similarity is None else similarity) >= self.threshold
        if self.matched is not None:
            same |= np.count_nonzero(pairs.close, axis=0) >= self.matched
        keep = [True] * pairs.scores.shape[1]
        # A reference comes after all pairs in which it could be eliminated itself.
        for i, j in zip(pairs.first[same].tolist(), pairs.second[same].tolist(), strict=True):
            if keep[i]:
                keep[j] = False
        return np.array(keep, dtype=bool)


@dataclass(frozen=True, eq=False)
class Pairs:
    """What the similarity needs of every pair of poses in the same image, the reference first.

    Attributes:
        first: the reference's number.
        second: the number of the other pose, which is not more confident. Within an image, pairs are in the
            order of their references.
        scores: of all people's keypoints, 0 where absent.
        close: whether the second pose's keypoint lies in the box around the reference's.
        squared_distances: NaN where one of the poses lacks the keypoint.
    """

    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    scores: Float64[np.ndarray, "k p"]
    close: Bool[np.ndarray, "k n"]
    squared_distances: Float64[np.ndarray, "k n"]

    def score_similarity(self, sigma: float) -> Float64[np.ndarray, " n"]:
        """K."""
        total = np.zeros(len(self.first))
        for certain, close in zip(np.tanh(self.scores / sigma), self.close, strict=True):
            total += certain.take(self.first) * certain.take(self.second) * close
        return total

    def distance_similarity(self, sigma: float) -> Float64[np.ndarray, " n"]:
        """H."""
        total = np.zeros(len(self.first))
        for squared in self.squared_distances:
            total += np.exp(np.fmax(squared / -sigma, _NEGLIGIBLE))  # fmax ignores NaN
        return total


def _pairs(poses: Poses, offset: int, *, box: float, relative: bool) -> Pairs:
    """The pairs of one image; its people are numbered from ``offset``."""
    order = np.argsort(-poses.score, kind="stable")
    first, second = np.triu_indices(len(poses), k=1)
    side = box * _longer_sides(poses.keypoints[order], poses.present[order])[first]
    points = np.ascontiguousarray(poses.keypoints[order].transpose(1, 2, 0))  # (k 2 p)
    close = np.empty((len(points), len(first)), dtype=bool)
    squared = np.empty(close.shape)
    for n, (x, y) in enumerate(points):  # one at a time, so that the arrays of all pairs stay in the cache
        right, down = x.take(second) - x.take(first), y.take(second) - y.take(first)
        close[n] = np.maximum(np.abs(right), np.abs(down)) <= side / 2
        squared[n] = right * right + down * down
    if relative:
        squared /= np.square(side)
    return Pairs(
        first=order[first] + offset,
        second=order[second] + offset,
        scores=np.where(poses.present, poses.scores, 0.0).T,
        close=close,
        squared_distances=squared,
    )


def _longer_sides(
    keypoints: Float64[np.ndarray, "p k 2"], present: Bool[np.ndarray, "p k"]
) -> Float64[np.ndarray, " p"]:
    """The longer side of each person's bounding box, in pixels."""
    known = present[..., None]
    low = np.where(known, keypoints, np.inf).min(axis=1)
    high = np.where(known, keypoints, -np.inf).max(axis=1)
    return np.asarray((high - low).max(axis=1).clip(min=_SMALLEST_SIDE))
