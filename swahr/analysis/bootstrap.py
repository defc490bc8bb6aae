"""Confidence intervals of AP, and of differences in AP, by resampling images.

A resample draws as many images as there are, with repetition, and AP is computed anew from all of its
detections. Whom a detection matches depends on its own image only, so images are matched once, and a resample
is a weight per image: how often it was drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from swahr.analysis.matching import Matching, match
from swahr.evaluation.evaluator import CROWDING, ProtocolName
from swahr.skeleton import Skeleton

_RECALLS = np.linspace(0.0, 1.0, 101)

Weights = Int64[np.ndarray, " i"]  # how often each image counts


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def ap_interval(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    protocol: ProtocolName = "coco",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """AP with confidence intervals: percentiles of AP over resampled images.

    Args:
        truth: COCO format.
        results: COCO results on its images.
        skeleton: the keypoints and their OKS sigmas.
        protocol: ``coco`` gives AP AP50 AP75 APM APL; ``crowdpose`` AP AP50 AP75 AP_easy AP_medium AP_hard.
            Metrics for which nobody is to be found are left out.
        resamples: how often images are drawn.
        confidence: the share of resamples within an interval.
        seed: of the draws.

    Raises:
        ValueError: ground truth and results do not match each other, the skeleton or the protocol; or
            ``resamples`` or ``confidence`` is out of range.
    """
    metrics = ResampledMetrics(match(truth, results, skeleton, protocol=protocol))
    return _intervals(metrics, metrics.images, resamples=resamples, confidence=confidence, seed=seed)


def ap_difference(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    protocol: ProtocolName = "coco",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """The AP of ``results`` minus that of ``others``; both are evaluated on the same resampled images.

    Arguments and errors are those of `ap_interval`.
    """
    first, second = (
        ResampledMetrics(match(truth, one, skeleton, protocol=protocol)) for one in (results, others)
    )

    def difference(weights: Weights) -> dict[str, float]:
        subtracted = second(weights)
        return {name: value - subtracted[name] for name, value in first(weights).items()}

    return _intervals(difference, first.images, resamples=resamples, confidence=confidence, seed=seed)


def _intervals(
    metrics: Callable[[Weights], dict[str, float]],
    images: int,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Interval]:
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"expected at least one resample and a confidence between 0 and 1, got resamples={resamples} and "
            f"confidence={confidence}"
        )
    rng = np.random.default_rng(seed)
    drawn = [
        metrics(np.bincount(rng.integers(images, size=images), minlength=images)) for _ in range(resamples)
    ]
    limits = 100 * (np.array([-1, 1]) * confidence + 1) / 2
    intervals = {}
    for name, value in metrics(np.ones(images, dtype=np.int64)).items():
        if not np.isnan(value):
            low, high = np.nanpercentile([one[name] for one in drawn], limits).tolist()
            intervals[name] = Interval(value, low, high)
    return intervals


class _Ranking(NamedTuple):
    """All detections in descending order of scores, as one range of person area sees them."""

    image: Int64[np.ndarray, " d"]
    found: Bool[np.ndarray, "t d"]  # matched to a person who counts
    counted: Bool[np.ndarray, "t d"]  # neither matched to an ignored person nor outside the range
    people: Int64[np.ndarray, " i"]  # those to be found, per image


class ResampledMetrics:
    """AP and its variants, by name, with each image repeated a number of times; NaN if nobody is to be found.

    Args:
        matching: at the OKS thresholds of AP.
    """

    def __init__(self, matching: Matching) -> None:
        self.images = len(matching.images)
        self._rankings = [_ranking(one) for one in matching.ranges]
        self._crowding = np.array([image.get("crowdIndex", np.nan) for image in matching.images])

    def __call__(self, weights: Weights) -> dict[str, float]:
        """The metrics of `ap_interval`, as fractions; ``weights`` are in the order of image ids."""
        every, *sizes = (_average_precision(ranking, weights) for ranking in self._rankings)
        metrics = {"AP": every.mean(), "AP50": every[0], "AP75": every[5]}
        if sizes:
            metrics |= {name: size.mean() for name, size in zip(("APM", "APL"), sizes, strict=True)}
        else:
            for name, (lowest, limit) in CROWDING.items():
                chosen = (self._crowding >= lowest) & (self._crowding < limit)
                metrics[name] = _average_precision(self._rankings[0], weights * chosen).mean()
        return {name: float(value) for name, value in metrics.items()}


def _ranking(records: Sequence[Mapping[str, Any] | None]) -> _Ranking:
    thresholds = next((len(record["dtMatches"]) for record in records if record), 10)
    scores, image = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    matched, ignored = [np.zeros((thresholds, 0), dtype=bool)], [np.zeros((thresholds, 0), dtype=bool)]
    people = np.zeros(len(records), dtype=np.int64)
    for i, record in enumerate(records):
        if record:
            scores.append(np.array(record["dtScores"], dtype=np.float64))
            image.append(np.full(len(record["dtScores"]), i))
            matched.append(record["dtMatches"] > 0)
            ignored.append(record["dtIgnore"].astype(bool))
            people[i] = np.count_nonzero(np.array(record["gtIgnore"]) == 0)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    counted = ~np.concatenate(ignored, axis=1)[:, order]
    found = np.concatenate(matched, axis=1)[:, order] & counted
    return _Ranking(np.concatenate(image)[order], found, counted, people)


def _average_precision(ranking: _Ranking, weights: Weights) -> Float64[np.ndarray, " t"]:
    """AP per OKS threshold: precision at 101 recalls, each the highest at this or any greater recall."""
    total = int(weights @ ranking.people)
    if not total:
        return np.full(len(ranking.found), np.nan)
    repeated = weights[ranking.image]
    found = np.cumsum(ranking.found * repeated, axis=1)
    counted = np.cumsum(ranking.counted * repeated, axis=1)
    precision = found / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # From the last recall on, precision is 0.
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    reached = [np.searchsorted(recalls, _RECALLS) for recalls in found / total]
    return np.asarray(np.take_along_axis(envelope, np.stack(reached), axis=1).mean(axis=1))
