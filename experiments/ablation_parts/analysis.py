"""What a network learned of size, what its scores mean, and how certain differences in AP are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from swahr.analysis import ap_difference, diagnose
from swahr.geometry import POINT_FROM_INDEX
from swahr.skeleton import Skeleton
from swahr.structures import DenseMaps

_LEAST = 10  # keypoints for a correlation
_SIZES = 8  # groups of people of similar size
_BINS = 10  # of scores


class ScaleReadings:
    """The width s that scale maps have at labelled keypoints, beside the person's size.

    A scale map's value is 1 / s² - 1. Size is the square root of the person's area, in pixels of the map.

    Args:
        truth: COCO format.
        skeleton: the keypoints.
    """

    def __init__(self, truth: Mapping[str, Any], skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._people: dict[int, list[Mapping[str, Any]]] = {}
        for person in truth["annotations"]:
            if person["num_keypoints"] and not person["iscrowd"]:
                self._people.setdefault(person["image_id"], []).append(person)
        self._rows: list[tuple[int, float, float]] = []  # keypoint, size, s

    def add(self, image_id: int, maps: DenseMaps) -> None:
        """Read the maps of one image, if it has scale maps."""
        if maps.scale_maps is None:
            return
        values, frame = maps.scale_maps[0].float().cpu().numpy(), maps.map_from_image[0]
        h, w = values.shape[1:]
        for person in self._people.get(image_id, []):
            triples = np.asarray(person["keypoints"], dtype=np.float64).reshape(-1, 3)
            columns, rows = np.floor(frame.apply(POINT_FROM_INDEX.apply(triples[:, :2]))).astype(int).T
            inside = (triples[:, 2] > 0) & (columns >= 0) & (columns < w) & (rows >= 0) & (rows < h)
            size = float(np.sqrt(person["area"])) * frame.length_ratio
            for keypoint in np.flatnonzero(inside):
                alpha = float(values[keypoint, rows[keypoint], columns[keypoint]])
                self._rows.append((int(keypoint), size, max(1 + alpha, 1e-3) ** -0.5))

    def summary(self) -> dict[str, Any] | None:
        """Spearman's rank correlation of s with size, per keypoint; s by size. None without scale maps."""
        if not self._rows:
            return None
        keypoints, sizes, widths = np.array(self._rows).T
        chosen = {"all": np.ones(len(keypoints), dtype=bool)}
        chosen |= {name: keypoints == i for i, name in enumerate(self._skeleton.keypoints)}
        return {
            "rank_correlation": {
                name: _rank_correlation(sizes[own], widths[own]) for name, own in chosen.items()
            },
            "by_size": _by_size(sizes, widths),
        }


def _rank_correlation(sizes: npt.NDArray[np.float64], widths: npt.NDArray[np.float64]) -> dict[str, Any]:
    constant = len(sizes) < _LEAST or np.ptp(sizes) == 0 or np.ptp(widths) == 0
    rho = None if constant else round(float(spearmanr(sizes, widths).statistic), 4)
    return {"rho": rho, "keypoints": len(sizes)}


def _by_size(sizes: npt.NDArray[np.float64], widths: npt.NDArray[np.float64]) -> list[dict[str, float]]:
    """Median size, and quartiles of s, in groups of equal number."""
    rows = []
    for own in np.array_split(np.argsort(sizes, kind="stable"), _SIZES):
        if len(own):
            low, median, high = np.percentile(widths[own], [25, 50, 75]).round(4).tolist()
            rows.append(
                {"size": round(float(np.median(sizes[own])), 2), "s": median, "low": low, "high": high}
            )
    return rows


def calibration(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton
) -> list[dict[str, float]]:
    """Mean score and mean similarity to the true keypoint, in bins of the keypoint's score.

    Similarity is a keypoint's part of OKS. Only labelled keypoints of detections that belong to a
    person count (`swahr.analysis.diagnose`).
    """
    diagnosis = diagnose(truth, results, skeleton)
    scores, similarities = [np.zeros(0)], [np.zeros(0)]
    for one, owner in diagnosis.owners.items():
        person = diagnosis.matching.people[owner]
        found, true = (
            np.asarray(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
            for entry in (diagnosis.matching.detections[one], person)
        )
        spread = 2 * person["area"] * (2 * np.array(skeleton.sigmas)) ** 2
        counted = (true[:, 2] > 0) & (found[:, 2] > 0)
        scores.append(found[counted, 2])
        similarity = np.exp(-((found[:, :2] - true[:, :2]) ** 2).sum(axis=1) / (spread + np.spacing(1)))
        similarities.append(similarity[counted])
    score, similarity = np.concatenate(scores), np.concatenate(similarities)
    number = np.clip((score * _BINS).astype(int), 0, _BINS - 1)
    return [
        {
            "from": i / _BINS,
            "keypoints": int(own.sum()),
            "score": round(float(score[own].mean()), 4),
            "similarity": round(float(similarity[own].mean()), 4),
        }
        for i in range(_BINS)
        if (own := number == i).any()
    ]


def difference(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    resamples: int,
) -> dict[str, dict[str, float]]:
    """AP of ``results`` minus that of ``others`` with 95 % intervals, by a paired bootstrap over images."""
    found = ap_difference(truth, results, others, skeleton, resamples=resamples)
    return {
        name: {bound: round(value, 5) for bound, value in vars(one).items()} for name, one in found.items()
    }
