"""The metrics of a study, computed from its outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from variants import Outcome, Study, Variant

from swahr.evaluation import Evaluator, results_from_poses
from swahr.structures import Poses

_LARGE = 96.0**2  # COCO's bound between medium and large people, in pixels of the image

Outcomes = Sequence[Mapping[str, Outcome]]
Evaluate = Callable[[Mapping[int, Poses]], dict[str, float]]


def score(study: Study, outcomes: Outcomes, dataset: str, folds: int) -> list[dict[str, Any]]:
    """Return one row per variant; ``outcomes`` are in the order of the study's images."""
    variants = {variant.name: variant for variant in study.variants}
    evaluate = _evaluation(study, dataset)
    return [
        _row(variant, variants[variant.against], study, outcomes, dataset, folds, evaluate)
        for variant in variants.values()
    ]


def _evaluation(study: Study, dataset: str) -> Evaluate:
    evaluator = Evaluator("crowdpose" if dataset == "crowdpose" else "coco")
    people: dict[int, list[Any]] = {image["id"]: [] for image in study.truth["images"]}
    for person in study.truth["annotations"]:
        people[person["image_id"]].append(person)
    images = {image["id"]: image for image in study.truth["images"]}

    def evaluate(poses: Mapping[int, Poses]) -> dict[str, float]:
        truth = {
            "images": [images[i] for i in poses],
            "annotations": [person for i in poses for person in people[i]],
            "categories": study.truth["categories"],
        }
        return evaluator(truth, results_from_poses(poses), study.skeleton)

    return evaluate


def _row(
    variant: Variant,
    reference: Variant,
    study: Study,
    outcomes: Outcomes,
    dataset: str,
    folds: int,
    evaluate: Evaluate,
) -> dict[str, Any]:
    due = [i for i, found in enumerate(outcomes) if variant.name in found]
    ids = [crowd.image_id for crowd in study.crowds]
    own = {ids[i]: outcomes[i][variant.name].poses for i in due}
    other = {ids[i]: outcomes[i][reference.name].poses for i in due}
    metrics = evaluate(own)
    offsets = np.concatenate([outcomes[i][variant.name].offsets for i in due])
    distance, large = np.hypot(offsets[:, 1], offsets[:, 2]), offsets[:, 0] >= _LARGE
    difference, error = metrics["AP"] - evaluate(other)["AP"], _standard_error(own, other, folds, evaluate)
    filled = np.sum([outcomes[i][variant.name].filled for i in due], axis=0)
    return {
        "dataset": dataset, "variant": variant.name, "question": variant.question, "text": variant.text,
        "images": len(due), "people": sum(len(study.crowds[i].people) for i in due),
        "found": sum(map(len, own.values())),
        "AP": metrics["AP"], "AP50": metrics["AP50"], "AP75": metrics["AP75"],
        "against": reference.name, "difference": difference, "standard_error": error,
        "error_medium": _median(distance[~large]), "error_large": _median(distance[large]),
        "bias_x": _median(offsets[:, 1]), "bias_y": _median(offsets[:, 2]),
        "filled_right": filled[0], "filled_elsewhere": filled[1], "filled_unlabelled": filled[2],
        "filled_nobodys": filled[3],
    }  # fmt: skip


def _standard_error(
    own: Mapping[int, Poses], other: Mapping[int, Poses], folds: int, evaluate: Evaluate
) -> float:
    """The standard error of the AP difference, from its values on ``folds`` parts of the images."""
    parts = [[image for i, image in enumerate(own) if i % folds == part] for part in range(folds)]
    values = [
        evaluate({i: own[i] for i in part})["AP"] - evaluate({i: other[i] for i in part})["AP"]
        for part in parts
        if part
    ]
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
