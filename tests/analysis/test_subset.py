"""AP of subsets of results: that of the evaluator, with each image matched once per set of its results."""

from typing import Any

import numpy as np
import pytest
from random_crowd import crowd

from swahr.analysis import subset
from swahr.analysis.subset import SubsetAP
from swahr.evaluation import Evaluator
from swahr.skeleton import COCO, CROWDPOSE, Skeleton


@pytest.mark.parametrize(("protocol", "skeleton"), [("coco", COCO), ("crowdpose", CROWDPOSE)])
def test_ap_is_the_evaluators(protocol: Any, skeleton: Skeleton):
    truth, results = crowd(skeleton)
    truth["images"] = truth["images"][::-1]
    average_precision, evaluator = SubsetAP(truth, results, skeleton, protocol), Evaluator(protocol)
    rng = np.random.default_rng(0)
    for share in (1.0, 0.8, 0.5, 0.0, 1.0):
        keep = rng.random(len(results)) < share
        kept = [one for one, chosen in zip(results, keep, strict=True) if chosen]
        expected = evaluator(truth, kept, skeleton)["AP"]
        assert average_precision(keep) == pytest.approx(expected, abs=1e-9)


def test_only_images_whose_results_change_are_matched_again(monkeypatch: pytest.MonkeyPatch):
    truth, results = crowd(COCO)
    counts: list[int] = []

    def counted(part: Any, *arguments: Any, **options: Any) -> Any:
        counts.append(len(part["images"]))
        return real(part, *arguments, **options)

    real = subset.match
    monkeypatch.setattr(subset, "match", counted)
    average_precision = SubsetAP(truth, results, COCO, "coco")
    everybody = np.ones(len(results), dtype=bool)
    fewer = everybody.copy()
    fewer[[0, -1]] = False  # of two images
    first = average_precision(everybody)
    average_precision(fewer)
    assert average_precision(everybody) == first
    average_precision(fewer)
    assert counts == [30, 2]
