"""The AP that a result would have if its errors of one kind were mended."""

from collections.abc import Sequence
from typing import Any

from swahr import coco_json
from swahr.analysis.diagnosis import INVERSION, JITTER, KINDS, MISS, SWAP, Diagnosis
from swahr.evaluation import Evaluator

SCORES, FALSE_PEOPLE, MISSED_PEOPLE = "scores", "false people", "missed people"
ORDER = (MISS, SWAP, INVERSION, JITTER, SCORES, FALSE_PEOPLE, MISSED_PEOPLE)
"""In which errors are mended one after another, like the precision-recall curves of the paper."""

Metrics = dict[str, float]


def mended_metrics(
    diagnosis: Diagnosis, evaluator: Evaluator
) -> tuple[Metrics, dict[str, Metrics], dict[str, Metrics]]:
    """The metrics as they are; with each kind of `ORDER` mended alone; and with those before it mended, too.

    Wrong keypoints are moved to their true positions. Scores become the OKS with the detection's person, or 0
    (the paper's optimal score, section 3.2). False people are removed from the results, missed people from
    the ground truth.
    """
    alone = {kind: _metrics(diagnosis, evaluator, [kind]) for kind in ORDER}
    cumulative = {
        kind: _metrics(diagnosis, evaluator, ORDER[:last]) for last, kind in enumerate(ORDER, start=1)
    }
    return _metrics(diagnosis, evaluator, []), alone, cumulative


def _metrics(diagnosis: Diagnosis, evaluator: Evaluator, mended: Sequence[str]) -> Metrics:
    people = diagnosis.matching.people
    detections = [_detection(diagnosis, one, mended) for one in diagnosis.evaluated]
    false = set(diagnosis.false_people) if FALSE_PEOPLE in mended else ()
    missed = set(diagnosis.missed_people) if MISSED_PEOPLE in mended else ()
    truth = coco_json.dataset(
        [{**image, "id": number} for number, image in enumerate(diagnosis.matching.images, start=1)],
        [person for one, person in people.items() if one not in missed],
        diagnosis.skeleton.to_category(),
    )
    kept = [one for one in detections if one["id"] not in false]
    return evaluator(truth, kept, diagnosis.skeleton)


def _detection(diagnosis: Diagnosis, one: int, mended: Sequence[str]) -> dict[str, Any]:
    detection, owner = dict(diagnosis.matching.detections[one]), diagnosis.owners.get(one)
    if owner is not None:
        keypoints, true = list(detection["keypoints"]), diagnosis.matching.people[owner]["keypoints"]
        for k, kind in enumerate(diagnosis.kinds[one].tolist()):
            if kind >= 0 and KINDS[kind] in mended:
                keypoints[3 * k : 3 * k + 2] = true[3 * k : 3 * k + 2]
        detection["keypoints"] = keypoints
    if SCORES in mended:
        detection["score"] = 0.0 if owner is None else diagnosis.oks(detection, owner)
    return detection
