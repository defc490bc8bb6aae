"""`swahr score` prints the metrics that were published with the results files, to their last digit."""

import pytest

PUBLISHED = {
    "coco": (
        "person_keypoints_val2014_first100.json", "person_keypoints_val2014_fakekeypoints100_results.json", 3,
        {"AP": 0.372, "AP50": 0.636, "AP75": 0.348, "APM": 0.384, "APL": 0.386,
         "AR": 0.514, "AR50": 0.734, "AR75": 0.504, "ARM": 0.508, "ARL": 0.522},
    ),
    "crowdpose": (
        "fce_example_crowdpose_val.json", "fce_example_crowdpose_preds.json", 4,
        {"AP": 0.7877, "AP50": 0.9881, "AP75": 0.7314, "AR": 0.8222, "AR50": 1.0, "AR75": 0.7778,
         "AP_easy": 1.0, "AP_medium": 0.9802, "AP_hard": 0.4116},
    ),
}  # fmt: skip


@pytest.mark.parametrize("protocol", PUBLISHED)
def test_published_metrics(swahr, shared_data, protocol):
    annotations, results, digits, metrics = PUBLISHED[protocol]
    folder = shared_data / "results"
    command = ["score", "--annotations", folder / annotations, "--results", folder / results]
    found = swahr(*command, "--protocol", protocol).result
    assert {name: round(value, digits) for name, value in found.items()} == metrics
