"""`swahr score`: what it adds on request."""

import json
from pathlib import Path

import numpy as np
import pytest

from swahr.skeleton import CROWDPOSE


@pytest.fixture
def files(coco_dataset: Path, tmp_path: Path) -> dict[str, Path]:
    """Annotations, and results that find everybody, but with every left elbow far away."""
    annotations = coco_dataset / "val.json"
    results = json.loads(annotations.read_text())["annotations"]
    for one in results:
        one["score"] = 0.5
        one["keypoints"][3 * 7] += 9000 if one["keypoints"][3 * 7 + 2] else 0
    (tmp_path / "results.json").write_text(json.dumps(results))
    return {"annotations": annotations, "results": tmp_path / "results.json"}


def training(annotations: Path, file: Path, names: tuple[str, ...]) -> Path:
    """The people of a file, thirty times, with other names of their keypoints."""
    content = json.loads(annotations.read_text())
    k = len(names)
    people = [{**one, "keypoints": one["keypoints"][: 3 * k]} for one in content["annotations"]] * 30
    content["annotations"] = [
        {**one, "id": i, "num_keypoints": int(np.count_nonzero(one["keypoints"][2::3]))}
        for i, one in enumerate(people, start=1)
    ]
    content["categories"][0] = {"id": 1, "name": "person", "keypoints": list(names)}
    file.write_text(json.dumps(content))
    return file


def test_other_measures(swahr, files, tmp_path):
    content = json.loads(files["annotations"].read_text())
    names = tuple(content["categories"][0]["keypoints"])
    command = ["score", *(part for name, file in files.items() for part in (f"--{name}", file))]
    plain = swahr(*command).result
    learnt = training(files["annotations"], tmp_path / "train.json", names)
    scored = swahr(*command, "--pckh", "--visibility", "--anatomy", learnt, "--insist").result
    assert {name: scored[name] for name in plain} == plain
    assert scored.keys() - plain.keys() == {"PCKh", "visible", "occluded", "implausible"}
    assert scored["PCKh"]["by_keypoint"]["left_elbow"] == 0
    labels = np.concatenate([one["keypoints"][2::3] for one in content["annotations"]])
    elbows = sum(one["keypoints"][3 * 7 + 2] > 0 for one in content["annotations"])
    assert scored["PCKh"]["overall"] == pytest.approx(1 - elbows / np.count_nonzero(labels))
    assert scored["visible"].keys() == scored["occluded"].keys() == plain.keys()
    assert scored["implausible"]["annotated"]["share"] == 0
    assert scored["implausible"]["found"]["by_part"]["left_shoulder-left_elbow"] == elbows
    other = training(files["annotations"], tmp_path / "other.json", CROWDPOSE.keypoints)
    error = swahr(*command, "--anatomy", other, "--insist").error
    assert "expected annotations with the keypoints of skeleton 'coco'" in error
