"""`swahr fit-pose-nms`: ghosts planted in a results file go, on other images too, and nobody else does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from swahr.skeleton import COCO

Entries = list[dict[str, Any]]


def split(folder: Path, seed: int, *, ghosts: bool, images: int = 40) -> tuple[Path, Path]:
    """Annotations, and results that find everybody, twice if there are ghosts; neighbours overlap."""
    rng = np.random.default_rng(seed)
    people: Entries = []
    results: Entries = []
    for image_id in range(1, images + 1):
        left = 0.0
        for _ in range(int(rng.integers(1, 5))):
            size = rng.uniform(80, 160)
            body = rng.uniform(0, 1, (17, 2)) * (size / 2, size) + (left, 10)
            left += size / 4  # half of the width
            box = [*body.min(axis=0).tolist(), *np.ptp(body, axis=0).tolist()]
            people.append(
                {"id": len(people) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": box,
                 "area": box[2] * box[3] * 0.53, "num_keypoints": 17, "keypoints": flat(body, 2)}
            )  # fmt: skip
            found = body + rng.normal(0, 0.01 * size, body.shape)
            results.append(result(image_id, found, rng.uniform(0.5, 1.0)))
            if ghosts and rng.random() < 0.6:
                ghost = found + rng.normal(0, 0.015 * size, body.shape)
                results.append(result(image_id, ghost, results[-1]["score"] * rng.uniform(0.7, 0.99)))
    entries = [
        {"id": i, "file_name": f"{i}.jpg", "height": 400, "width": 400, "crowdIndex": 0.5}
        for i in range(1, images + 1)
    ]
    content = {"images": entries, "annotations": people, "categories": [COCO.to_category()]}
    folder.mkdir()
    for name, value in (("annotations", content), ("results", results)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder / "annotations.json", folder / "results.json"


def flat(points: np.ndarray, value: float) -> list[float]:
    return np.column_stack([points, np.full(len(points), value)]).ravel().tolist()


def result(image_id: int, points: np.ndarray, score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "keypoints": flat(points, score), "score": score}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    return {
        name: split(tmp_path / name, seed, ghosts=ghosts)
        for name, seed, ghosts in (("fit", 0, True), ("other", 1, True), ("clean", 2, False))
    }


def command(files: tuple[Path, Path], output: Path, *more: Any) -> list[Any]:
    return ["fit-pose-nms", "--annotations", files[0], "--results", files[1], "--output", output, *more]


def others(*pair: Path) -> list[Any]:
    return ["--test-annotations", pair[0], "--test-results", pair[1]]


@pytest.mark.parametrize("flags", [[], ["--pixels"], ["--matched"], ["--protocol", "crowdpose"]])
def test_planted_ghosts_go_on_the_other_split_too(swahr, files, tmp_path, flags):
    output = tmp_path / "mine" / "postprocess" / "fitted.yaml"
    found = swahr(*command(files["fit"], output, *others(*files["other"]), *flags)).result
    assert found["AP"]["after"] > found["AP"]["before"] + 0.05
    assert found["test_AP"]["after"] > found["test_AP"]["before"] + 0.05
    ghosts = found["test_people"]["before"] - len(json.loads(files["other"][0].read_text())["annotations"])
    assert found["test_people"]["before"] - found["test_people"]["after"] >= 0.9 * ghosts > 20
    text = output.read_text()
    assert yaml.safe_load(text)["pose_nms"] == {
        "_target_": "swahr.second_stage.PoseNms",
        **found["parameters"],
    }
    assert '"sha256"' in text
    assert found["parameters"]["relative"] is ("--pixels" not in flags)


@pytest.mark.parametrize("fitted_on", ["fit", "clean"])
def test_nothing_is_lost_where_no_ghosts_are(swahr, files, tmp_path, fitted_on):
    other = split(tmp_path / "more", 5, ghosts=False)
    found = swahr(*command(files[fitted_on], tmp_path / "fitted.yaml", *others(*other))).result
    assert found["test_AP"]["after"] >= found["test_AP"]["before"] - 1e-9
    assert found["AP"]["after"] >= found["AP"]["before"]
    assert found["test_people"]["before"] == found["test_people"]["after"]


def test_the_file_is_an_option_of_postprocess(swahr, files, tmp_path, checkpoint, photos):
    swahr(*command(files["fit"], tmp_path / "mine" / "postprocess" / "fitted.yaml"))
    used = ["predict", f"checkpoint={checkpoint}", f"hydra.searchpath=[file://{tmp_path}/mine]"]
    for option in ("fitted", "pose_nms", "pose_nms_public"):
        outcome = swahr(*used, f"postprocess={option}", photos, f"output={tmp_path}/{option}")
        assert outcome.result["images"] == 4


def test_the_search_is_reproducible_and_ap_is_that_of_score(swahr, files, tmp_path):
    first, again = (swahr(*command(files["fit"], tmp_path / f"{name}.yaml")).result for name in "ab")
    assert {**first, "output": ""} == {**again, "output": ""}
    scored = swahr("score", "--annotations", files["fit"][0], "--results", files["fit"][1]).result
    assert first["AP"]["before"] == scored["AP"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--output", "fitted.json"], "expected a name ending in .yaml, got 'fitted.json'"),
        (["--results", "nothing.json"], "nothing.json"),
        (["--test-results", "results.json"], "expected both --test-annotations and --test-results"),
    ],
)
def test_bad_arguments(swahr, files, tmp_path, more, message):
    assert message in swahr(*command(files["clean"], tmp_path / "fitted.yaml", *more)).error
    assert not (tmp_path / "fitted.yaml").exists()


def test_no_people_a_file_that_exists_and_other_keypoints(swahr, files, tmp_path, nine_keypoint_dataset):
    annotations, results = files["clean"]
    output = tmp_path / "fitted.yaml"
    people = json.loads((nine_keypoint_dataset / "val.json").read_text())["annotations"]
    nine = tmp_path / "nine.json"
    nine.write_text(json.dumps([one | {"score": 0.5} for one in people]))
    more = others(nine_keypoint_dataset / "val.json", nine)
    assert "expected the keypoints ['nose'," in swahr(*command(files["clean"], output, *more)).error
    assert swahr(*command((nine_keypoint_dataset / "val.json", nine), output)).result["AP"]["before"] == 1.0
    assert "exists already" in swahr(*command(files["clean"], output)).error
    results.write_text("[]")
    error = swahr(*command((annotations, results), tmp_path / "b.yaml")).error
    assert "results.json: expected people, got none" in error
