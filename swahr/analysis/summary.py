"""Errors, gains and comparisons as plain values, for JSON and the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from swahr.analysis.diagnosis import KINDS, Diagnosis
from swahr.analysis.mending import Metrics, mended_metrics
from swahr.evaluation import Evaluator

_LISTED = 10  # images of a comparison, on either side
_EQUAL = 1e-9


def summarise(diagnosis: Diagnosis, evaluator: Evaluator) -> dict[str, Any]:
    """Metrics, numbers of people and keypoints per kind of error, and the AP gained by mending.

    Gains are differences from the metrics: ``alone``, with only this kind mended, and ``cumulative``, with
    the kinds before it mended as well.
    """
    metrics, alone, cumulative = mended_metrics(diagnosis, evaluator)
    by_keypoint = diagnosis.by_keypoint()
    found, missed = len(diagnosis.owners), len(diagnosis.missed_people)
    return {
        "metrics": metrics,
        "people": {"annotated": found + missed, "found": found, "missed": missed}
        | {"false": len(diagnosis.false_people)},
        "keypoints": {kind: sum(row[kind] for row in by_keypoint.values()) for kind in KINDS},
        "by_keypoint": by_keypoint,
        "by_size": diagnosis.by_group(diagnosis.sizes()),
        "by_crowding": diagnosis.by_group(diagnosis.crowding()),
        "gains": {
            kind: {"alone": _gain(alone[kind], metrics), "cumulative": _gain(cumulative[kind], metrics)}
            for kind in alone
        },
    }


def _gain(mended: Mapping[str, float], metrics: Mapping[str, float]) -> Metrics:
    """Differences of the APs that are defined for both; COCO's tools write -1 where nobody is to be found."""
    names = [name for name in metrics if name.startswith("AP") and min(metrics[name], mended[name]) >= 0]
    return {name: mended[name] - metrics[name] for name in names}


def worst_images(diagnosis: Diagnosis, count: int) -> list[dict[str, Any]]:
    """The images that lose most, by `Diagnosis.lost`, with what was wrong in them.

    Raises:
        ValueError: ``count`` is negative.
    """
    if count < 0:
        raise ValueError(f"expected a number of images to list, 0 or more, got {count}")
    lost = diagnosis.lost()
    return [
        _case(diagnosis, i, lost[i]) for i in np.argsort(-lost, kind="stable")[:count].tolist() if lost[i] > 0
    ]


def _case(diagnosis: Diagnosis, index: int, lost: float) -> dict[str, Any]:
    detections, people = diagnosis.matching.detections, diagnosis.matching.people
    found = [one for one in diagnosis.owners if detections[one]["image_id"] == index + 1]
    kinds = np.array([diagnosis.kinds[one] for one in found])
    return _named(diagnosis, index) | {
        "lost": float(lost),
        "missed people": sum(people[one]["image_id"] == index + 1 for one in diagnosis.missed_people),
        "false people": sum(detections[one]["image_id"] == index + 1 for one in diagnosis.false_people),
        **{kind: int(np.count_nonzero(kinds == i)) for i, kind in enumerate(KINDS)},
    }


def compare_images(first: Diagnosis, second: Diagnosis) -> dict[str, Any]:
    """In how many images ``first`` is better, i.e. loses less OKS; and the images that differ most.

    Args:
        first: of one result.
        second: of another result on the same ground truth.
    """
    gained = second.lost() - first.lost()
    order = np.argsort(-gained, kind="stable").tolist()
    best = [i for i in order if gained[i] > _EQUAL][:_LISTED]
    worst = [i for i in order[::-1] if gained[i] < -_EQUAL][:_LISTED]
    return {
        "better": int(np.count_nonzero(gained > _EQUAL)),
        "worse": int(np.count_nonzero(gained < -_EQUAL)),
        "equal": int(np.count_nonzero(np.abs(gained) <= _EQUAL)),
        "most": [_named(first, i) | {"oks_gained": float(gained[i])} for i in (*best, *worst[::-1])],
    }


def _named(diagnosis: Diagnosis, index: int) -> dict[str, Any]:
    image = diagnosis.matching.images[index]
    return {"image_id": image["id"], "file_name": image.get("file_name", "")}
