"""`swahr analyse`: the JSON and the page, and what goes wrong."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def inputs(coco_dataset: Path, tmp_path: Path) -> dict[str, Path]:
    """Annotations, two results files of the same name, and images."""
    annotations = coco_dataset / "val.json"
    people = json.loads(annotations.read_text())["annotations"]
    worse = [one | {"score": 0.5, "keypoints": [x + 2 for x in one["keypoints"]]} for one in people]
    for name, results in (("a", [one | {"score": 0.9} for one in people]), ("b", worse[1:])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    return {
        "annotations": annotations,
        "results": tmp_path / "b" / "results.json",
        "against": tmp_path / "a" / "results.json",
        "images": coco_dataset / "images",
    }


def arguments(inputs: dict[str, Path], *names: str) -> list[object]:
    return [part for name in names for part in (f"--{name}", inputs[name])]


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', page)
    images = [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR) for one in found]
    assert all(image is not None for image in images)
    return images


def test_everything(swahr, inputs, tmp_path):
    command = ["analyse", *arguments(inputs, *inputs), "--resamples", 20, "--output", tmp_path / "out"]
    outcome = swahr(*command)
    assert "val.json: 2 images" in outcome.stderr
    analysis = json.loads((tmp_path / "out" / "analysis.json").read_text())
    scored = [swahr("score", *arguments(inputs, "annotations"), "--results", inputs[name]).result
              for name in ("results", "against")]  # fmt: skip
    assert [analysis["metrics"], analysis["against"]["metrics"]] == scored
    assert outcome.result["metrics"] == scored[0]
    difference = analysis["against"]["difference"]["AP"]["value"]
    assert difference == pytest.approx(scored[0]["AP"] - scored[1]["AP"], abs=1e-9)
    assert difference < 0
    assert analysis["people"]["missed"] >= 1
    assert len({file["sha256"] for file in analysis["files"].values()}) == 3
    assert analysis["provenance"]["seed"] == 0
    page = (tmp_path / "out" / "analysis.html").read_text()
    plots = [image for image in pictures(page) if image.shape[1] == 900]
    assert len(plots) == 2
    assert len(pictures(page)) == 2 + len(analysis["worst"])
    assert "<h2>Compared with results.json</h2>" in page
    assert "http" not in page  # self-contained
    assert "holds files of another run" in swahr(*command).error


def test_only_what_is_needed(swahr, inputs, tmp_path):
    needed = arguments(inputs, "annotations", "against")
    needed[2] = "--results"
    perfect = swahr("analyse", *needed, "--resamples", 5, "--output", tmp_path / "out").result
    assert perfect["metrics"]["AP"] == pytest.approx(1.0)
    assert perfect["keypoints"]["good"] == sum(perfect["keypoints"].values())
    analysis = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert "against" not in analysis
    assert analysis["worst"] == []
    assert len(pictures((tmp_path / "out" / "analysis.html").read_text())) == 2


def test_names_in_the_page_are_escaped(swahr, inputs, tmp_path):
    results = inputs["results"].rename(tmp_path / "<b>&.json")
    command = ["analyse", *arguments(inputs, "annotations"), "--results", results, "--resamples", 5]
    assert swahr(*command, "--output", tmp_path / "out").code == 0
    page = (tmp_path / "out" / "analysis.html").read_text()
    assert "Errors of &lt;b&gt;&amp;.json on val.json" in page
    assert "<b>" not in page


def test_no_results_at_all(swahr, inputs, tmp_path):
    inputs["results"].write_text("[]")
    command = ["analyse", *arguments(inputs, "annotations", "results", "images"), "--resamples", 5]
    found = swahr(*command, "--output", tmp_path / "out").result
    assert found["people"]["found"] == found["metrics"]["AP"] == 0
    assert found["gains"]["missed people"] == {}


def test_images_that_are_not_there(swahr, inputs, tmp_path):
    inputs["images"] = tmp_path
    command = ["analyse", *arguments(inputs, "annotations", "results", "images"), "--resamples", 5]
    error = swahr(*command, "--output", tmp_path / "out").error
    assert "images cannot be drawn; all other results are in" in error
    assert "expected an image file" in error
    assert len(pictures((tmp_path / "out" / "analysis.html").read_text())) == 2
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["worst"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--resamples", 0), "at least one resample"),
        (("--cases", -1), "0 or more, got -1"),
        (("--results", "nothing.json"), "nothing.json"),
        (("--against", "nothing.json"), "nothing.json"),
        (("--images", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_leaves_no_folder(swahr, inputs, tmp_path, extra, message):
    command = ["analyse", *arguments(inputs, "annotations", "results"), "--resamples", 5, *extra]
    assert message in swahr(*command, "--output", tmp_path / "out").error
    assert not (tmp_path / "out").exists()
