"""`swahr fit-proposals`: the mixture and the figure, and what goes wrong."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from swahr.second_stage import ProposalBoxes
from swahr.skeleton import COCO

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'swahr[second-stage]'")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """People, one per image, each found 8 % larger to every side; a keypoint far off has a low score."""
    rng = np.random.default_rng(0)
    people: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    shape = rng.uniform(0, 1, (17, 2))
    for image_id in range(1, 61):
        body = (shape + rng.normal(0, 0.02, shape.shape)) * (100, 200) + rng.uniform(0, 100, 2)
        low, high = body.min(axis=0), body.max(axis=0)
        larger = (body - low) * 1.16 + low - 0.08 * (high - low)
        scores = np.where(np.arange(17) == 0, 0.05, 0.8)
        found = np.where(scores[:, None] < 0.1, 5000.0, larger)
        inside = (body > low).all(axis=1) & (body < high).all(axis=1)
        assert inside[0]  # so that the box does not depend on it
        people.append(
            {"id": image_id, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
             "bbox": [*low.tolist(), *(high - low).tolist()], "area": float(np.prod(high - low)),
             "keypoints": np.column_stack([body, np.full(17, 2)]).ravel().tolist()}
        )  # fmt: skip
        keypoints = np.column_stack([found, scores]).ravel().tolist()
        results.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": 0.9})
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 400, "width": 400} for i in range(1, 61)]
    content = {"images": images, "annotations": people, "categories": [COCO.to_category()]}
    for name, value in (("annotations", content), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return {name: tmp_path / f"{name}.json" for name in ("annotations", "results")}


def command(files: dict[str, Path], output: Path, *more: Any) -> list[Any]:
    given = [part for name, path in files.items() for part in (f"--{name}", path)]
    return ["fit-proposals", *given, "--output", output, *more]


def test_offsets_and_the_figure(swahr, files, tmp_path):
    output = tmp_path / "out"
    found = swahr(*command(files, output, "--atoms", 2, "--components", 1)).result
    assert (found["matched"], found["used"], sum(found["atoms"])) == (60, 60, 60)
    boxes = ProposalBoxes.from_json(output / "proposals.json", COCO)
    for mixture in boxes.mixtures:
        np.testing.assert_allclose(mixture.means, [[-0.08, -0.08, 0.08, 0.08]], atol=1e-6)
    content = json.loads((output / "proposals.json").read_text())
    assert content["settings"] == {"atoms": 2, "components": 1, "seed": 0, "oks": 0.5, "box_threshold": 0.1}
    assert set(content["provenance"]["sha256"]) == {"annotations.json", "results.json"}
    picture = cv2.imread(str(output / "atoms.png"))
    assert picture.shape == (440, 420, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert "holds files of another run" in swahr(*command(files, output)).error


def test_keypoints_with_low_scores_count_only_if_they_should(swahr, files, tmp_path):
    swahr(*command(files, tmp_path / "all", "--atoms", 1, "--components", 1, "--box-threshold", 0))
    (mixture,) = ProposalBoxes.from_json(tmp_path / "all" / "proposals.json").mixtures
    assert mixture.means[0, 2] > 20


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--atoms", 7], "expected at least 70 pairs for 7 atoms, got 60 of 60 pairs that are usable"),
        (["--oks", 0], "--oks 0.0: expected a number above 0, up to 1"),
        (["--results", "nothing.json"], "nothing.json"),
        (["--annotations", "nothing.json"], "nothing.json"),
    ],
)
def test_bad_input_leaves_no_folder(swahr, files, tmp_path, more, message):
    assert message in swahr(*command(files, tmp_path / "out", *more)).error
    assert not (tmp_path / "out").exists()


def test_nobody_detected_and_other_keypoints(swahr, files, tmp_path, nine_keypoint_dataset):
    found = json.loads(files["results"].read_text())
    files["annotations"], own = nine_keypoint_dataset / "val.json", files["annotations"]
    files["results"].write_text(json.dumps(found[:2]))
    assert "expected 27 numbers in 'keypoints'" in swahr(*command(files, tmp_path / "a")).error
    files["annotations"] = own
    files["results"].write_text(json.dumps([one | {"keypoints": [0.0] * 51} for one in found]))
    assert "got 0 of 0 pairs" in swahr(*command(files, tmp_path / "b")).error
    files["results"].write_text("[]")
    assert "got 0 of 0 pairs" in swahr(*command(files, tmp_path / "c")).error
