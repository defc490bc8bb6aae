"""Sweeps: the same metrics as by `swahr evaluate`, few passes, nothing twice, an honest search."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted_network import PaintedNetwork, write_checkpoint, write_painted
from sweep import settings
from sweep.search import search_of
from sweep_evaluation import sweep_evaluation

from swahr.cli.command import compose_config
from swahr.cli.evaluate import evaluate
from swahr.decode import KeypointRecovery
from swahr.files import read_json

GRID = {
    "decode": ["quarter", "dark"],
    "grouping.peaks.threshold": [0.1, 0.5],
    "aggregate.flip": [True, False],
}
OTHER = {"data.module.val.annotations": "${data.root}/test.json"}
SEARCH = {"space": {"grouping.peaks.threshold": [0.02, 0.9], "decode": {"choices": ["raw", "dark"]}}}


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Path:
    """A folder with a checkpoint and two sets of images."""
    folder = tmp_path_factory.mktemp("painted")
    write_checkpoint(folder / "painted.safetensors")
    write_painted(folder, "val", count=6, seed=1)
    write_painted(folder, "test", count=5, seed=2)
    return folder


@pytest.fixture
def common(painted) -> dict[str, Any]:
    return {
        "trust": ["painted_network"], "data": "custom", "data.root": str(painted), "data.module.workers": 0,
        "device": "cpu",
    }  # fmt: skip


@pytest.fixture
def sweep(painted, common, tmp_path, monkeypatch, capsys) -> Callable[..., list[dict[str, Any]]]:
    """Runs a sweep in the folder ``sweep``; returns the rows of its ``sweep.json``."""
    monkeypatch.setattr(PaintedNetwork, "calls_left", 10**9)

    def run(**values: Any) -> list[dict[str, Any]]:
        PaintedNetwork.calls = 0
        capsys.readouterr()
        config = compose_config("sweep_evaluation", [f"output={tmp_path / 'sweep'}"])
        config.checkpoints = str(painted / "painted.safetensors")
        for key, value in ({"common": common} | values).items():
            config[key] = value
        sweep_evaluation(config)
        assert json.loads(capsys.readouterr().out)["output"] == str(tmp_path / "sweep")
        return read_json(tmp_path / "sweep" / "sweep.json")["rows"]

    return run


@pytest.fixture
def alone(painted, common, tmp_path) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The metrics of `swahr evaluate` in a setting."""

    def run(changes: dict[str, Any]) -> dict[str, float]:
        folder = tmp_path / f"alone_{len(list(tmp_path.iterdir()))}"
        given = common | changes | {"pictures": 0, "output": str(folder)}
        overrides = [f"{key}={json.dumps(value)}" for key, value in given.items()]
        evaluate(compose_config("evaluate", [f"checkpoint={painted / 'painted.safetensors'}", *overrides]))
        return read_json(folder / "metrics.json")["metrics"]

    return run


def test_a_sweep_equals_swahr_evaluate_in_every_setting_with_one_pass_per_aggregation(sweep, alone):
    further = [
        {"evaluation": "crowdpose", "grouping.rule.tag_threshold": 0.5},
        {"aggregate.test_scales": [0.5, 1.0], "decode": "dark_scale_map", "grouping": "gated"},
    ]
    rows = sweep(grid=GRID, settings=further)
    batches = 2  # one of each size
    assert PaintedNetwork.calls == batches * (2 + 1 + 4)  # flip; no flip; flip at two test scales
    assert [row["changes"] for row in rows][8:] == further
    for row in rows:
        expected = alone(row["changes"])
        assert row["metrics"].keys() == expected.keys()
        np.testing.assert_allclose([*row["metrics"].values()], [*expected.values()], rtol=0, atol=1e-12)
    found = [row["metrics"]["AP"] for row in rows]
    assert len(set(found)) > 6
    assert 0.5 < max(found) < 0.99


def test_what_is_finished_is_not_computed_again(sweep, tmp_path):
    first = sweep(grid={"aggregate.flip": [True]}, settings=[{"decode": "raw"}])
    rows = sweep(grid={"decode": ["raw", "quarter"], "aggregate.flip": [True, False]})
    assert PaintedNetwork.calls == 2 * (2 + 1)  # quarter offsets with flip; both without
    assert rows[0]["metrics"] == first[1]["metrics"]
    assert rows[0]["stamp"] == first[1]["stamp"]
    assert sweep(grid={"decode": ["raw", "quarter"], "aggregate.flip": [True, False]}) == rows
    assert PaintedNetwork.calls == 0
    assert len(list((tmp_path / "sweep" / "rows").iterdir())) == 5


@pytest.mark.parametrize("changed", ["annotations", "weights"])
def test_rows_of_other_annotations_or_weights_are_not_reused(sweep, common, tmp_path, changed):
    weights = write_checkpoint(tmp_path / "own.safetensors")
    annotations = write_painted(tmp_path / "data", "val", count=3, seed=3)
    own = common | {"data.root": str(tmp_path / "data")}
    values = {"settings": [{}], "checkpoints": str(weights), "common": own}
    first = sweep(**values)
    if changed == "annotations":
        content = read_json(annotations)
        content["annotations"].pop()
        annotations.write_text(json.dumps(content))
    else:
        write_checkpoint(weights, gain=0.3)
    settings._digest.cache_clear()  # the next sweep is another process
    assert sweep(**values)[0]["metrics"] != first[0]["metrics"]
    assert PaintedNetwork.calls > 0


def test_an_interrupted_sweep_keeps_what_is_finished(sweep, tmp_path, caplog):
    grid = {"aggregate.flip": [False, True], "decode": ["raw", "dark"]}
    PaintedNetwork.calls_left = 2 + 1
    with pytest.raises(SystemExit, match="130"):
        sweep(grid=grid)
    assert f"output={tmp_path / 'sweep'} continues" in caplog.text
    kept = read_json(tmp_path / "sweep" / "sweep.json")["rows"]
    assert [row["changes"]["aggregate.flip"] for row in kept] == [False, False]
    PaintedNetwork.calls_left = 10**9
    rows = sweep(grid=grid)
    assert rows[:2] == kept
    assert len(rows) == 4
    assert PaintedNetwork.calls == 2 * 2


def test_a_setting_that_fails_costs_no_other(sweep, monkeypatch, tmp_path, painted):
    recover = KeypointRecovery.__call__

    def fails(self, groups, maps):
        if self.threshold == 0.25:
            raise RuntimeError("no recovery today")
        return recover(self, groups, maps)

    monkeypatch.setattr(KeypointRecovery, "__call__", fails)
    grid = {"decode.recover.threshold": [0.1, 0.25]}
    with pytest.raises(ValueError, match="1 of 2 settings failed") as failed:
        sweep(grid=grid)
    assert f"{painted / 'images' / 'val_1.png'}: RuntimeError: no recovery today" in str(failed.value)
    done, wrong = read_json(tmp_path / "sweep" / "sweep.json")["rows"]
    assert done["metrics"]["AP"] > 0.1
    assert "no recovery today" in wrong["error"]
    assert "metrics" not in wrong
    monkeypatch.setattr(KeypointRecovery, "__call__", recover)
    assert sweep(grid=grid)[1]["metrics"]["AP"] > 0.1
    assert PaintedNetwork.calls == 2 * 2


def test_an_image_that_cannot_be_read_leaves_no_metrics(sweep, common, tmp_path):
    write_painted(tmp_path / "data", "val", count=3, seed=3)
    broken = tmp_path / "data" / "images" / "val_2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"2 of 2 settings failed[\s\S]*val_2\.png"):
        sweep(grid={"decode": ["raw", "dark"]}, common=common | {"data.root": str(tmp_path / "data")})
    rows = read_json(tmp_path / "sweep" / "sweep.json")["rows"]
    assert not any("metrics" in row for row in rows)


def test_the_tables_have_a_row_per_setting_and_only_what_differs(sweep, tmp_path, painted):
    twin = write_checkpoint(tmp_path / "painted.safetensors")
    files = [str(painted / "painted.safetensors"), str(twin)]
    rows = sweep(checkpoints=files, grid={"decode": ["raw"]}, settings=[{"evaluation": "crowdpose"}])
    assert [row["checkpoint"] for row in rows] == [files[0]] * 2 + [files[1]] * 2
    stamp, *lines = (tmp_path / "sweep" / "sweep.csv").read_text().splitlines()
    assert "commit" in json.loads(stamp.removeprefix("# "))
    table = list(csv.DictReader(lines))
    assert [(row["decode"], row["evaluation"]) for row in table] == [("raw", ""), ("", "crowdpose")] * 2
    assert float(table[0]["AP"]) == rows[0]["metrics"]["AP"]
    assert table[0]["AP_easy"] == table[1]["APM"] == ""
    shown = (tmp_path / "sweep" / "sweep.md").read_text().splitlines()
    assert shown[0].startswith("| checkpoint | decode | evaluation | status | AP |")
    assert sum("painted.safetensors" in line for line in shown) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected grid=.*got none of them"),
        ({"grid": GRID, "search": SEARCH}, "got search as well"),
        ({"grid": [1]}, r"grid: expected a mapping such as .* got \[1\]"),
        ({"grid": {"decode": "dark"}}, "grid.decode: expected a list of values, got 'dark'"),
        ({"settings": ["dark"]}, r"settings\[0\]: expected a mapping .* got 'dark'"),
        (
            {"grid": {"decode": ["darc"]}},
            r"decode=\"darc\": there is no decode=darc \(did you mean decode=dark",
        ),
        ({"grid": {"decode.refin": [1]}}, "there is no key 'decode.refin'"),
        ({"grid": {"checkpoint": ["a"]}}, "list them in checkpoints"),
        ({"grid": {"grouping.peaks.window": [5, 4]}}, "grouping.peaks.window=4: expected an odd window"),
        ({"grid": GRID, "checkpoints": []}, "expected at least one file"),
        ({"grid": GRID, "checkpoints": ["none.safetensors"]}, "none.safetensors: no such checkpoint"),
    ],
)
def test_wrong_settings_are_found_before_the_network_runs(sweep, values, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sweep(**values)
    assert PaintedNetwork.calls == 0


def test_a_search_reports_the_best_setting_on_other_images(sweep, alone, tmp_path):
    pytest.importorskip("optuna", reason="needs optuna: pip install 'swahr[sweeps]'")
    search = SEARCH | {"report": OTHER, "trials": 5}
    rows = sweep(search=search)
    searched = read_json(next((tmp_path / "sweep").glob("search_painted_*.json")))
    objectives = {json.dumps(trial["changes"]): trial["objective"] for trial in searched["trials"]}
    assert len(objectives) == 5
    assert max(objectives.values()) == objectives[json.dumps(searched["best"])]
    assert max(objectives.values()) > min(objectives.values())
    assert [row["changes"] for row in rows] == [{}, searched["best"]]
    for row in rows:
        assert row["images"] == 5
        np.testing.assert_allclose(
            [*row["metrics"].values()], [*alone(OTHER | row["changes"]).values()], rtol=0, atol=1e-12
        )
    # Maps in half precision choose as the others do.
    assert alone(searched["best"])["AP"] == pytest.approx(max(objectives.values()), abs=0.02)
    for reported in (tmp_path / "sweep").glob("sweep.*"):
        assert str(max(objectives.values())) not in reported.read_text()
    assert not list((tmp_path / "sweep").glob("maps_*"))
    # A longer search goes on where this one ended.
    assert sweep(search=search) == rows
    assert PaintedNetwork.calls == 0
    sweep(search=search | {"trials": 7})
    longer = read_json(next((tmp_path / "sweep").glob("search_painted_*.json")))["trials"]
    assert longer[:5] == searched["trials"]


def test_a_search_on_the_images_it_reports_is_refused(sweep):
    pytest.importorskip("optuna", reason="needs optuna: pip install 'swahr[sweeps]'")
    with pytest.raises(ValueError, match="expected other images than those searched on, got 3 of the same"):
        sweep(search=SEARCH | {"report": {"data.module.val.limit": 3}})


def test_without_optuna_the_extra_is_named(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'swahr\[sweeps\]'"):
        sweep(search=SEARCH | {"report": OTHER})
    assert PaintedNetwork.calls == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (SEARCH, "search: expected space, report"),
        (SEARCH | {"report": {"data": "coco"}, "trial": 3}, "got .*'trial'"),
        (SEARCH | {"report": {"decode": "dark"}}, "expected keys of data, got decode"),
        (SEARCH | {"report": {}}, "entries in space and report"),
        (SEARCH | {"report": {"data": "coco"}, "trials": 0}, "at least one trial"),
        (
            {"space": {"aggregate.flip": {"choices": [True]}}, "report": {"data": "coco"}},
            "use grid for others",
        ),
        ({"space": {"grouping.peaks.threshold": [0.3, 0.1]}, "report": {"data": "coco"}}, "low below high"),
        ({"space": {"decode": ["quarter", "dark"]}, "report": {"data": "coco"}}, "got .'quarter', 'dark'."),
    ],
)
def test_a_wrong_search_is_explained(values, message):
    with pytest.raises(ValueError, match=message):
        search_of(values, seed=0)


def test_the_command_goes_on_in_its_folder(painted, tmp_path, repository):
    command = [
        sys.executable, str(repository / "experiments" / "sweep_evaluation.py"), f"output={tmp_path / 'run'}",
        f"checkpoints={painted / 'painted.safetensors'}",
        f"common={{trust: [painted_network], data: custom, data.root: {painted}, data.module.workers: 0}}",
    ]  # fmt: skip
    environment = {"PYTHONPATH": f"{repository}:{repository / 'tests'}", "OMP_NUM_THREADS": "1"}
    for grid, passes in (("raw", 1), ("raw", 0)):
        done = subprocess.run(
            [*command, f"grid={{decode: [{grid}]}}"], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == 1
        assert done.stderr.count("finding people") == passes
    wrong = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert "swahr sweep_evaluation: error: expected grid=" in wrong.stderr
    assert "Traceback" not in wrong.stderr
