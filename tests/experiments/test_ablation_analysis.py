"""What the ablation computes of finished runs: spread over seeds, correlation, calibration."""

import math
from typing import Any

import numpy as np
import torch
from ablation_parts.analysis import ScaleReadings, calibration
from ablation_parts.differences import over_seeds
from ablation_parts.page import Words, tables

from swahr.geometry import Affine
from swahr.skeleton import COCO
from swahr.structures import DenseMaps


def test_seeds_are_shown_with_their_spread_and_undefined_values_left_out():
    def run(seed: int, ap: float, apm: float, rho: float | None) -> dict[str, Any]:
        correlation = {"all": {"rho": rho, "keypoints": 50}}
        test = {
            "metrics": {"dark": {"coco": {"AP": ap, "AP50": 0.5, "AR": 0.5, "APM": apm, "APL": -1.0}}},
            "scale_map": {"rank_correlation": correlation, "by_size": []},
            "calibration": [{"from": 0.2, "keypoints": 10 * (seed + 1), "score": 0.25, "similarity": ap}],
        }
        shares = [{"step": i, "a": 0.25, "b": 0.75} for i in range(5)]
        stamp = {"device": "d", "commit": "c", "libraries": {"torch": "t"}}
        return {
            "name": f"sahr_{seed}", "variant": "sahr", "seed": seed, "parameters": 1_500_000,
            "tests": {"t": test}, "differences": [], "loss_shares": shares, "stamp": stamp,
        }  # fmt: skip

    shown = tables(
        [run(0, 0.3, -1.0, -0.1), run(1, 0.5, 0.2, None)],
        [],
        Words("loss", "decoding", "dark", "mse"),
        "make",
    )
    assert "| `sahr` | 2 | 1.50 M | 40.0 ± 14.1 | 50.0 ± 0.0 | 50.0 ± 0.0 |" in shown
    assert "| `sahr` | t | 20.0 | n/a |" in shown
    assert "| all | -0.10 |" in shown
    assert "| n/a | n/a | 0.43 (30) | n/a |" in shown
    assert "| `sahr` | `b` | 75.0 ± 0.0 % |" in shown
    assert "No run is missing." in shown
    assert "Training ended on d: sahr_0, sahr_1. Tested on d, torch t, commit c." in shown


def test_differences_have_intervals_over_seeds():
    """Two seeds: t is 12.706, and the standard error half of their distance."""

    def run(seed: int, ap: float) -> dict[str, Any]:
        one = {"run": f"sahr_{seed}", "against": f"mse_{seed}", "test": "t", "metrics": {"AP": {"value": ap}}}
        return {"variant": "sahr", "seed": seed, "differences": [one]}

    assert over_seeds([run(0, 0.01), run(1, 0.03)])[1:] == [
        ["`sahr` - `mse`", "t", "2", "+2.0 (-10.7 to +14.7)", "n/a", "n/a"]
    ]
    assert len(over_seeds([run(0, 0.01)])) == 1


def test_scale_maps_that_follow_size_correlate_and_are_read_where_the_keypoints_are():
    people, alpha = [], np.full((1, 17, 40, 200), 9.0, dtype=np.float32)
    for i in range(12):
        x, y, s = 4 + 16 * i, 8, 1 + 0.1 * i
        triples = np.zeros((17, 3))
        triples[:2] = [(2 * x, 2 * y, 2), (2 * x + 10, 2 * y, 1)]  # a map pixel is two image pixels
        alpha[0, 0, y, x] = s**-2 - 1
        alpha[0, 1, y, x + 5] = s**2 - 1  # the width is 1 / s: larger people have smaller ones
        person = {"image_id": 3, "iscrowd": 0, "num_keypoints": 2, "area": float((10 + i) ** 2)}
        people.append(person | {"keypoints": triples.ravel().tolist()})
    people.append(people[0] | {"num_keypoints": 0, "area": 1e9})
    readings = ScaleReadings({"annotations": people}, COCO)
    assert readings.summary() is None
    readings.add(3, DenseMaps({"scale_maps": torch.from_numpy(alpha)}, (Affine.scaling(0.5),)))
    summary = readings.summary()
    rho = summary["rank_correlation"]
    assert rho["nose"] == {"rho": 1.0, "keypoints": 12}
    assert rho["left_eye"] == {"rho": -1.0, "keypoints": 12}
    assert rho["right_eye"] == {"rho": None, "keypoints": 0}
    assert rho["all"]["keypoints"] == 24
    assert [row["size"] for row in summary["by_size"]][:2] == [5.0, 6.0]


def test_calibration_compares_a_score_with_its_own_keypoint():
    """Each keypoint is off by the distance at which its part of OKS is exp(-1/2), or exact."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5)), axis=-1).reshape(-1, 2)[:17] * 20.0 + 30
    true = np.column_stack([grid, np.full(17, 2.0)])
    true[16] = 0  # not labelled
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 6400.0, "bbox": [30, 30, 60, 80],
        "num_keypoints": 16, "keypoints": true.ravel().tolist(),
    }  # fmt: skip
    found = np.column_stack([grid, np.full(17, 1.2)])
    found[:8, 0] += 80 * 2 * np.array(COCO.sigmas)[:8]
    found[:8, 2] = 0.31
    found[8] = 0  # not found
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    image = {"id": 1, "file_name": "a.jpg", "height": 200, "width": 200}
    truth = {"images": [image], "annotations": [person], "categories": [category]}
    entry = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": found.ravel().tolist()}
    stranger = entry | {"score": 0.1, "keypoints": (found + np.array([900.0, 0, 0])).ravel().tolist()}
    assert calibration(truth, [entry, stranger], COCO) == [
        {"from": 0.3, "keypoints": 8, "score": 0.31, "similarity": round(math.exp(-0.5), 4)},
        {"from": 0.9, "keypoints": 7, "score": 1.2, "similarity": 1.0},
    ]
    assert calibration(truth, [], COCO) == []
