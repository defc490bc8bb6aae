"""`make gpu` on a CPU with tiny sizes: every part, failures that stay alone, nothing written to docs/."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.measure import Case
from benchmarks.sections import SECTIONS
from gpu import gpu, gpu_or_exit
from gpu_suite.agreement import Differences
from gpu_suite.checks import CheckFailedError, perform
from gpu_suite.equality import compare_devices
from gpu_suite.marked_tests import run_marked_tests
from gpu_suite.page import write_page
from gpu_suite.part import PARTS, run_part
from gpu_suite.speed import measure_eager
from omegaconf import OmegaConf

from swahr.checkpoint import load_checkpoint
from swahr.cli.command import compose_config
from swahr.grouping import PeakExtractor

CPU = torch.device("cpu")


def dry_run(folder: Path, *overrides: str):
    return compose_config("gpu_dry_run", [*overrides, f"output={folder / 'run'}"])


@pytest.fixture(scope="module")
def dry_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gpu") / "run"


@pytest.fixture(scope="module")
def result(dry_folder):
    """Of a dry run of all parts; a page is given, and must not be written."""
    folder = dry_folder.parent
    result = gpu(dry_run(folder, f"page={folder / 'page.md'}"))
    assert not (folder / "page.md").exists()
    assert json.loads((folder / "run" / "gpu.json").read_text()) == result
    return result


def test_every_part_passes_and_is_marked_as_a_dry_run(result):
    errors = {name: part.get("log") for name, part in result["parts"].items() if part["status"] != "passed"}
    assert errors == {}
    assert list(result["parts"]) == list(PARTS)
    assert (result["dry_run"], result["device"], result["passed"]) == (True, "cpu", True)
    assert {"commit", "libraries", "seed"} <= set(result["stamp"])


def measurements(result, part: str) -> dict[str, dict]:
    return {check["name"]: check["measurements"] for check in result["parts"][part]["checks"]}


def test_photographs_are_trained_on_for_the_budget_and_the_weights_are_packed(result, dry_folder):
    found = measurements(result, "photographs")
    trial, training = found["photographs: speed"], found["photographs: training"]
    expected = 0.2 * 120 * trial["images_per_second"] / training["images per epoch"]
    assert 1 <= training["epochs"] <= max(1, expected)
    checkpoint = load_checkpoint(dry_folder / "photographs.safetensors")
    assert checkpoint.path.stat().st_size == training["bytes"]
    assert 0 <= training["AP"] <= 1


def test_every_stage_is_compared(result):
    names = {name.split(",")[0] for name in measurements(result, "equality")}
    stages = {"targets", "losses and gradients", "peaks", "grouping", "refinement", "recovery", "decoding"}
    assert names == stages | {"maps of a network", "poses of a network"}
    assert measurements(result, "equality")["peaks, native"]["peaks"] > 0
    assert measurements(result, "equality")["poses of a network"]["poses"] > 0


def test_speed_is_measured_eager_and_compiled(result):
    eager, compiled = (
        {(row["section"], row["variant"]) for row in measurements(result, part).values()}
        for part in ("speed", "compiled")
    )
    assert {("decode", "ours"), ("decode", "plain"), ("forward", "ours"), ("limits", "ours")} <= eager
    step = {("training step", "ours"), ("training step", "losses alone")}
    assert step <= eager
    (share,) = (row for row in measurements(result, "speed").values() if row["variant"] == "losses alone")
    assert share["bound"] == 0.02
    assert compiled == step | {("forward", "ours"), ("forward", "plain")}
    assert all(", compiled" in name for name in measurements(result, "compiled"))


def test_trainings_have_losses_and_ap_before_and_after(result):
    found = measurements(result, "training")
    for name in ("demo", "w32_256"):
        training = found[f"{name}: training"]
        assert training["steps"] == 4
        assert training["loss of the first tenth"] > 0
        assert {"AP before", "AP after"} <= set(training)
        poses = found[f"{name}: poses on CPU and GPU"]
        assert poses["unmatched"] == 0
        assert poses["poses"] > 0


def test_the_page_shows_every_part_and_its_origin(result, tmp_path):
    failed = result["parts"]["tests"] | {"status": "timed out", "error": "stopped"}
    write_page(tmp_path / "page.md", result | {"parts": result["parts"] | {"tests": failed}})
    text = (tmp_path / "page.md").read_text()
    assert "`experiments/gpu.py`" in text
    assert str(result["stamp"]["commit"]) in text
    assert text.count("\n## ") == len(PARTS)
    assert "| equality | passed |" in text
    assert "| tests | timed out |" in text
    assert "### Training step" in text


def test_a_part_that_fails_or_takes_too_long_does_not_stop_the_others(tmp_path):
    config = dry_run(
        tmp_path,
        "parts=[tests,equality,speed]",
        "tests=[nowhere]",
        "budgets.equality=0.01",
        "sections=[limits]",
    )
    with pytest.raises(SystemExit) as stop:
        gpu_or_exit(config)
    assert stop.value.code == 1
    parts = json.loads((tmp_path / "run" / "gpu.json").read_text())["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "tests": "failed", "equality": "timed out", "speed": "passed",
    }  # fmt: skip
    assert "ran no test" in parts["tests"]["error"]
    assert "nowhere" in parts["tests"]["log"]


def test_no_time_is_left(tmp_path):
    assert gpu(dry_run(tmp_path, "limit=0"))["parts"]["speed"]["status"] == "not run"


def test_checks_before_an_error_are_kept(tmp_path, monkeypatch):
    def part(config, device):
        yield perform("first", dict)
        raise RuntimeError("out of memory")

    monkeypatch.setitem(PARTS, "speed", part)
    run_part("speed", OmegaConf.create({"device": "cpu"}), tmp_path / "speed.json")
    content = json.loads((tmp_path / "speed.json").read_text())
    assert [check["name"] for check in content["checks"]] == ["first"]
    assert "out of memory" in content["error"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_stops_at_once(tmp_path, repository):
    command = [sys.executable, "experiments/gpu.py", f"output={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: expected a GPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "gpu.json").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parts=[lunch]", r"parts=\['lunch'\]: expected some of"),
        ("dry_run=false", "expected a GPU, but device=cpu"),
    ],
)
def test_what_is_refused(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        gpu(dry_run(tmp_path, override))


def test_the_trainings_compose_and_differ_in_their_network():
    trainings = compose_config("gpu").trainings
    demo, w32 = (compose_config("train", list(trainings[name].overrides)) for name in ("demo", "w32_256"))
    assert (demo.data.module.augmentation.input_size, w32.aggregate.input_size) == (128, 256)
    assert (demo.model.backbone.channels[0], w32.model.backbone.channels[0]) == (16, 32)


def test_another_result_is_a_failed_check(monkeypatch):
    """A device whose second extraction of peaks moves them is noticed, and only there."""
    extract, calls = PeakExtractor.__call__, []

    def shifted(self, maps):
        calls.append(maps)
        peaks = extract(self, maps)
        return replace(peaks, positions=peaks.positions + 1) if len(calls) % 2 == 0 else peaks

    config = compose_config("gpu_dry_run", ["equality.targets=null", "equality.losses=null"])
    config.equality.targets, config.equality.losses = {}, {}
    monkeypatch.setattr(PeakExtractor, "__call__", shifted)
    first = next(iter(compare_devices(config, CPU)))
    assert (first.name, first.passed) == ("peaks, official", False)
    assert first.measurements["positions"] == 1
    assert "positions: the largest difference is 1, allowed 0" in first.message


def test_a_section_that_fails_does_not_stop_the_next(monkeypatch):
    def cases(config, people, device):
        yield Case("counting", "different", 3, {"ours": lambda: 1, "plain": lambda: 2}, differ)
        yield Case("counting", "alone", 3, {"ours": lambda: 1})
        raise RuntimeError("out of memory")

    def differ(ours, plain):
        assert ours == plain

    monkeypatch.setitem(SECTIONS, "decode", cases)
    config = compose_config("gpu_dry_run", ["sections=[decode,limits]"])
    checks = list(measure_eager(config, CPU))
    assert [check.passed for check in checks[:3]] == [False, True, False]
    assert "differ" in checks[0].message
    assert "out of memory" in checks[2].message
    assert len(checks) == 3 + 4
    assert all(check.passed for check in checks[3:])


def test_differences_and_tolerances():
    differences = Differences()
    differences.add("near", torch.tensor([1.0, 2.0]), np.array([1.0, 2.5]), 0.5)
    assert differences.checked() == {"near": 0.5}
    differences.add("not a number", torch.tensor([torch.nan]), torch.tensor([1.0]), 0.5)
    differences.add("shape", torch.zeros(2), torch.zeros(3))
    with pytest.raises(CheckFailedError, match=r"not a number.*\n.*shape: expected the shape \(3,\)"):
        differences.checked()


def test_skipped_tests_count_on_a_gpu(tmp_path):
    file = tmp_path / "test_made_up.py"
    file.write_text("import pytest\n\n\n@pytest.mark.gpu\ndef test_it():\n    pytest.skip('no reason')\n")
    config = OmegaConf.create({"tests": [str(file)]})
    (check,) = run_marked_tests(config, torch.device("cuda"))
    assert not check.passed
    assert check.message == "skipped: no reason"


def test_tests_that_were_not_run_are_a_failure_even_if_others_passed(tmp_path):
    file = tmp_path / "test_made_up.py"
    file.write_text(
        "import pytest\n\n\n@pytest.mark.gpu\ndef test_first():\n    pass\n\n\n"
        "@pytest.mark.gpu\ndef test_second():\n    pytest.exit('enough', returncode=3)\n"
    )
    checks = run_marked_tests(OmegaConf.create({"tests": [str(file)]}), CPU)
    first = next(checks)
    assert (first.name.endswith("test_first"), first.passed) == (True, True)
    with pytest.raises(RuntimeError, match="exit code 3"):
        list(checks)
