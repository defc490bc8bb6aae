"""Metrics of visible and of occluded keypoints."""

from collections.abc import Mapping, Sequence
from typing import Any

from swahr.evaluation import Evaluator
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, OCCLUDED, VISIBLE

_VISIBILITIES = {"visible": VISIBLE, "occluded": OCCLUDED}


def visibility_metrics(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    evaluator: Evaluator | None = None,
) -> dict[str, dict[str, float]]:
    """The evaluator's metrics of ``visible`` and of ``occluded`` keypoints alone.

    The other keypoints are unlabelled and not counted in ``num_keypoints``. People without any remaining
    keypoint are ignored, and so are detections around them, as COCO does with people without labels. People
    whose ``num_keypoints`` is 0 in ``truth`` stay ignored.

    Args:
        truth: COCO format, where v is 0 for unlabelled, 1 for occluded and 2 for visible keypoints; it is not
            modified.
        results: COCO results on its images.
        skeleton: the keypoints and their OKS sigmas.
        evaluator: None for COCO's protocol. Its metrics are -1 where no person remains.

    Raises:
        ValueError: a visibility is not 0, 1 or 2, or ground truth and results do not match each other, the
            skeleton or the protocol.
    """
    evaluator = evaluator or Evaluator()
    metrics = {}
    for name, visibility in _VISIBILITIES.items():
        people = [_restricted(person, visibility, skeleton) for person in truth["annotations"]]
        metrics[name] = evaluator({**truth, "annotations": people}, results, skeleton)
    return metrics


def _restricted(person: Mapping[str, Any], visibility: int, skeleton: Skeleton) -> Mapping[str, Any]:
    """A person with the keypoints of one visibility; one of another skeleton as it is."""
    keypoints = list(person.get("keypoints") or ())
    if len(keypoints) != 3 * skeleton.num_keypoints:
        return person  # the evaluator ignores it, or says what is wrong
    if unknown := [v for v in keypoints[2::3] if v not in (ABSENT, OCCLUDED, VISIBLE)]:
        raise ValueError(
            f"annotation {person.get('id')} of image {person.get('image_id')}: expected visibilities 0 "
            f"(unlabelled), 1 (occluded) or 2 (visible), got {unknown[0]!r}; correct it"
        )
    kept = [v == visibility for v in keypoints[2::3]]
    return {
        **person,
        "keypoints": [value if kept[i // 3] else 0 for i, value in enumerate(keypoints)],
        "num_keypoints": 0 if person.get("num_keypoints") == 0 else sum(kept),
    }
