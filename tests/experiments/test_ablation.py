"""The ablation: what is missing is done, nothing twice, and no other configuration passes for it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ablation_parts.training
import numpy as np
import pytest
from ablation import _differences, ablation
from ablation_parts.plan import Run, runs_of
from ablation_parts.testing import Detections
from ablation_parts.training import attempts, learning_curve, logs, loss_shares
from omegaconf import DictConfig, OmegaConf

from swahr.cli.command import compose_config
from swahr.files import read_json, write_json
from swahr.provenance import provenance
from swahr.skeleton import COCO

SMOKE = ["experiment=smoke", "trainer.log_every_n_steps=1", "grouping.peaks.threshold=-1"]
VARIANTS = [
    {"name": "mse", "overrides": ["loss=mse"], "seeds": [0]},
    {"name": "swahr", "overrides": ["loss=swahr"], "seeds": [0, 1]},
]


def plan(folder: Path, **changes: Any) -> DictConfig:
    """A plan of runs of seconds, whose test set is rendered."""
    config = compose_config("ablation")
    own = {
        "data_root": str(folder),
        "train": SMOKE,
        "variants": VARIANTS,
        "only": ["mse_0", "swahr_0"],
        "resamples": 20,
        "results": str(folder / "results"),
        "output": str(folder / "runs"),
    }
    OmegaConf.set_struct(config, False)
    config.tests = {"others": {"data.module.val.seed": 5, "data.module.val.size": 3}}
    for key, value in (own | changes).items():
        config[key] = value
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a finished plan, whose runs were trained beside each other."""
    folder = tmp_path_factory.mktemp("ablation")
    ablation(plan(folder, beside=2))
    return folder


@pytest.fixture
def no_training(monkeypatch) -> None:
    def refuse(run: Run, *, alone: bool) -> None:
        raise AssertionError(f"unexpected training: {run.name}")

    monkeypatch.setattr(ablation_parts.training, "_start", refuse)


def result(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / "results" / f"{name}.json")


def test_each_run_leaves_one_small_file_with_all_that_was_measured(folder):
    assert sorted(file.name for file in (folder / "results").iterdir()) == ["mse_0.json", "swahr_0.json"]
    swahr = result(folder, "swahr_0")
    assert (swahr["variant"], swahr["seed"], swahr["images"]) == ("swahr", 0, 4)
    assert 4e5 < swahr["parameters"] < 4e6
    assert [step for step, _ in swahr["curve"]] == [1]
    assert swahr["overrides"] == [*SMOKE, "loss=swahr", "seed=0"]
    assert swahr["stamp"]["sha256"].keys() >= {"best.safetensors", "results_others.json"}
    assert swahr["stamp"]["commit"] == swahr["stamp"]["trained_by"]
    test = swahr["tests"]["others"]
    assert test["images"] == 3
    assert list(test["metrics"]) == ["quarter", "dark", "dark_scale_map"]
    assert {"AP", "APM", "APL"} <= test["metrics"]["dark"]["coco"].keys()
    assert {"AP_easy", "AP_medium", "AP_hard"} <= test["metrics"]["dark"]["crowdpose"].keys()
    assert list(result(folder, "mse_0")["tests"]["others"]["metrics"]) == ["quarter", "dark"]
    assert result(folder, "mse_0")["tests"]["others"]["scale_map"] is None
    for shares in swahr["loss_shares"]:
        terms = [key for key in shares if key != "step" and not key.startswith("foreground_")]
        assert sum(shares[key] for key in terms) == pytest.approx(1, abs=1e-4)
        assert 0 < shares["foreground_4"] <= 1
    for name in ("mse_0", "swahr_0"):
        assert (folder / "results" / f"{name}.json").stat().st_size < 24_000
        assert str(folder) not in (folder / "results" / f"{name}.json").read_text()


def test_what_is_finished_is_not_run_again(folder, no_training, capsys):
    before = {file: file.read_bytes() for file in (folder / "results").iterdir()}
    ablation(plan(folder))
    assert json.loads(capsys.readouterr().out)["done"] == ["mse_0", "swahr_0"]
    assert {file: file.read_bytes() for file in (folder / "results").iterdir()} == before


def test_a_finished_run_needs_neither_its_checkpoints_nor_the_data(folder, no_training, capsys, tmp_path):
    ablation(plan(folder, data_root=None, output=str(tmp_path / "elsewhere"), only=None, dry=True))
    shown = json.loads(capsys.readouterr().out)
    assert (shown["done"], shown["missing"]) == (["mse_0", "swahr_0"], ["swahr_1"])


def test_a_result_of_another_configuration_is_an_error_that_names_the_difference(folder, no_training):
    for changes, named in (
        ({"train": [*SMOKE, "targets.sigma=3.0"]}, r"train\.targets\.sigma: 2\.0 there, 3\.0 now"),
        ({"decoding": "quarter"}, r"test\.decoding: 'dark' there, 'quarter' now"),
        ({"tests": {"others": {"data.module.val.seed": 6}}}, r"data\.module\.val\.seed: 5 there, 6 now"),
    ):
        with pytest.raises(ValueError, match=rf"mse_0\.json: expected this configuration.*{named}"):
            ablation(plan(folder, **changes))


def test_a_result_with_earlier_names_of_classes_is_finished(folder, no_training, capsys, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(folder / "results", results)
    recorded = result(tmp_path, "mse_0")
    key = "train.training.callbacks.best._target_"
    assert recorded["config"][key] == "swahr.runs.ExportBest"
    recorded["config"][key] = "swahr.training.ExportBest"
    write_json(results / "mse_0.json", recorded)
    ablation(plan(folder, results=str(results)))
    assert json.loads(capsys.readouterr().out)["done"] == ["mse_0", "swahr_0"]
    recorded["config"][key] = "swahr.runs.Throughput"
    write_json(results / "mse_0.json", recorded)
    with pytest.raises(ValueError, match=r"callbacks\.best\._target_: 'swahr\.runs\.Throughput' there"):
        ablation(plan(folder, results=str(results)))


def test_checkpoints_of_another_configuration_are_not_resumed(folder, no_training, tmp_path):
    other = plan(folder, train=[*SMOKE, "targets.sigma=3.0"], results=str(tmp_path / "results"))
    with pytest.raises(ValueError, match=r"plan\.json: expected this.*sigma: 2\.0 there, 3\.0 now"):
        ablation(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": ["mse_7"]}, "only: expected some of mse_0, swahr_0, swahr_1, got mse_7"),
        ({"against": "sahr"}, "against=sahr: expected one of mse, swahr"),
        ({"decoding": "drak"}, "decoding=drak: expected one of quarter"),
        ({"data_root": None}, "add data_root=PATH"),
        ({"beside": 0}, "beside=0: expected 1 or more trainings"),
        ({"train": [*SMOKE, "weights=/my/own.pth"]}, "mse_0: train.weights=/my/own.pth: expected no folder"),
    ],
)
def test_a_wrong_plan_is_explained(tmp_path, no_training, changes, message):
    with pytest.raises(ValueError, match=message):
        ablation(plan(tmp_path, **changes))


def test_the_shipped_plans_compose_and_record_no_folder():
    for name, count in (
        ("ablation", 15),
        ("ablation_why", 3),
        ("ablation_photos", 6),
        ("ablation_people", 11),
        ("ablation_people_photos", 1),
    ):
        runs = runs_of(compose_config(name, ["data_root=/some/where"]))
        assert len(runs) == len({run.name for run in runs}) == count
        assert "/some/where" not in json.dumps([run.recorded for run in runs])
        assert all("/some/where" in json.dumps([run.overrides, run.tests]) for run in runs)
        assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_a_failed_run_costs_no_other(tmp_path, capfd):
    failing = [{"name": "mse", "overrides": ["loss=none"], "seeds": [0]}]
    with pytest.raises(ValueError, match=r"mse_0: there is no loss=none"):
        ablation(plan(tmp_path, variants=[*failing, VARIANTS[1]], only=None))  # before anything is run
    failing[0]["overrides"] = ["trainer.accelerator=gpu"]
    with pytest.raises(ValueError, match=r"1 of 2 runs failed.*\nmse_0: training failed \(.*\)"):
        ablation(plan(tmp_path, variants=[*failing, VARIANTS[1]], beside=2))
    assert "gpu" in (tmp_path / "runs" / "mse_0" / "messages_of_train_1.txt").read_text().lower()
    assert (tmp_path / "results" / "swahr_0.json").is_file()
    assert result(tmp_path, "swahr_0")["differences"] == []


def test_the_logs_of_a_resumed_run_are_those_of_one_run(tmp_path):
    (run,) = [run for run in runs_of(plan(tmp_path)) if run.name == "mse_0"]
    head = "step,train/loss,train/a,train/b,train/tag_separation,val/AP"
    for number, lines in (
        (1, ["0,4,1,3,,", "9,2,1,1,0.5,", "9,,,,,0.25", "19,9,9,0,,", "29,,,,,0.9"]),
        (2, []),
        (10, ["19,4,3,1,1.5,", "19,,,,,0.5"]),
    ):
        own = run.folder / f"train_{number}"
        own.mkdir(parents=True)
        if lines:
            (own / "metrics.csv").write_text("\n".join([head, *lines]))
    assert [folder.name for folder in attempts(run)] == ["train_1", "train_2", "train_10"]
    rows = logs(run)
    assert learning_curve(rows) == [[9, 0.25], [19, 0.5]]
    assert loss_shares(rows) == [
        {"step": 0, "a": 0.25, "b": 0.75},
        {"step": 9, "a": 0.5, "b": 0.5},
        {"step": 19, "a": 0.75, "b": 0.25},
    ]
    others = {"train/pose_labels": "0.5", "train/pose_discriminator": "1.4", "train/pose_adversarial": "-0.1"}
    assert loss_shares([row | others for row in rows]) == loss_shares(rows)


def test_ctrl_c_saves_the_training_and_the_same_command_goes_on(tmp_path, repository):
    train = [*SMOKE, "trainer.max_epochs=25", "trainer.check_val_every_n_epoch=24"]
    command = [
        sys.executable, str(repository / "experiments" / "ablation.py"), f"data_root={tmp_path}",
        f"train={train}", "variants=[{name:mse,overrides:['loss=mse'],seeds:[0]}]",
        "tests.coco_val=null", "tests.crowdpose_val=null",
        "+tests.others={data.module.val.seed:5,data.module.val.size:2}",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    started = {"cwd": tmp_path, "env": environment, "text": True, "stderr": subprocess.PIPE}
    first, runs = tmp_path / "runs" / "ablation" / "mse_0" / "train_1", tmp_path / "runs" / "ablation"
    with subprocess.Popen(command, **started) as process:
        while not (first / "last.ckpt").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 130, message
    assert "the same command goes on" in message
    assert (first / "interrupted.ckpt").is_file()
    dry = subprocess.run([*command, "dry=true"], **started, stdout=subprocess.PIPE, check=True)
    assert json.loads(dry.stdout)["resumable"] == ["mse_0"]
    done = subprocess.run(command, **started, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == ["mse_0"]
    assert sorted(folder.name for folder in (runs / "mse_0").glob("train_*")) == ["train_1", "train_2"]
    resumed = OmegaConf.load(runs / "mse_0" / "train_2" / "config.yaml").ckpt
    assert resumed == "runs/ablation/mse_0/train_1/interrupted.ckpt"
    found = read_json(tmp_path / "docs" / "results" / "ablation" / "mse_0.json")
    assert len(found["curve"]) == 1
    assert found["images"] == 25 * 4
    assert not any(str(value).startswith("/") for value in found["config"].values())


def test_the_page_shows_every_finished_run_and_names_the_missing(folder, no_training, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- table: results -->\nold\n<!-- end -->\nAfter.\n")
    ablation(plan(folder, only=None, data_root=None, page=str(page)))
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("<!-- end -->\nAfter.\n")
    assert "old" not in text
    assert "Missing runs: swahr_1." in text
    assert text.count(f"page={page}`, from 2 runs.") == text.count("### ") == 6
    assert "| `swahr` | 1 | 0.72 M |" in text
    assert "| `swahr_0` | `mse_0` | others | +0.0 (+0.0 to +0.0) |" in text
    assert (tmp_path / "images" / "results.png").stat().st_size > 10_000
    before = text
    ablation(plan(folder, only=None, data_root=None, page=str(page)))
    assert page.read_text() == before
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="expected a line '<!-- table: results -->'"):
        ablation(plan(folder, page=str(page)))


def test_a_page_without_any_run_lists_all_as_missing(tmp_path, no_training):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: results -->\n<!-- end -->\n")
    ablation(plan(tmp_path, only=None, page=str(page)))
    assert "Missing runs: mse_0, swahr_0, swahr_1." in page.read_text()


def test_differences_are_those_from_the_plain_loss_of_the_same_seed_whichever_ran_first(tmp_path, caplog):
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5)), axis=-1).reshape(-1, 2)[:17] * 20.0 + 30
    keypoints = np.column_stack([grid, np.full(17, 2.0)]).ravel().tolist()
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 6400.0, "bbox": [30, 30, 60, 80],
        "num_keypoints": 17, "keypoints": keypoints,
    }  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    image = {"id": 1, "file_name": "a.jpg", "height": 200, "width": 200}
    truth = {"images": [image], "annotations": [person], "categories": [category]}
    right = [{"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": keypoints}]
    wrong = [right[0] | {"keypoints": [*([5.0, 5.0, 1.0] * 17)]}]
    config = plan(tmp_path)
    mse, swahr, swahr_1 = runs = runs_of(config)
    found = {}
    for run, results, other, others in ((swahr, right, mse, wrong), (mse, wrong, swahr, right)):
        write_json(other.folder / "results_t.json", others)
        stamp = provenance(seed=0, files=[other.folder / "results_t.json"])
        write_json(other.result, {**other.recorded, "stamp": stamp})
        tested = {"t": Detections(truth, results, COCO, run.folder / "results_t.json", {})}
        (found[run.name],) = _differences(run, tested, config, runs)
        assert _differences(swahr_1, tested, config, runs) == []
        write_json(other.folder / "results_t.json", [])
        assert _differences(run, tested, config, runs) == []
        assert f"not the detections of {other.result}" in caplog.text
        other.result.unlink()
    assert found["swahr_0"] == found["mse_0"]
    assert (found["mse_0"]["run"], found["mse_0"]["against"]) == ("swahr_0", "mse_0")
    assert found["mse_0"]["metrics"]["AP"] == {"value": 1.0, "low": 1.0, "high": 1.0}
