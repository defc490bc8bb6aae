"""`swahr table`: any runs to one table."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from swahr.cli.command import FAILED


def settings(loss="swahr", seed=0, **changes):
    """A configuration, overrides and options, as stamps hold them."""
    config = {
        "loss": {"weight": len(loss)},
        "data": {"module": {"val": {"_target_": "swahr.data.CocoSource", "annotations": "a/val.json"}}},
        "output": f"runs/{loss}{seed}",
        "ckpt": None,
        "seed": seed,
    }
    overrides = [f"loss='{loss}'", f"seed={seed}", "output=runs/x"]
    return {"config": yaml.safe_dump(config | changes), "overrides": overrides, "choices": {"loss": loss}}


def result(
    path: Path, stated, *, images=3, sha256="1234567890", speed=None, commit="c0ffee", **metrics
) -> Path:
    """Write a result such as `swahr train` leaves."""
    stamp = {"commit": commit, "sha256": {"val.json": sha256}, **stated}
    stamp["seed"] = yaml.safe_load(stated["config"])["seed"] if "config" in stated else 0
    content = {"metrics": metrics, "images": images, "stamp": stamp}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | ({"images_per_second": speed} if speed else {})))
    return path


def without_result(folder: Path, stated, log="") -> Path:
    """Write what Hydra and a run that did not end leave."""
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "config.yaml").write_text(stated["config"].replace("output: ", "output: ${now:%Y}/"))
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(stated["overrides"]))
    job = {"job": {"name": "train"}, "runtime": {"choices": stated["choices"]}}
    (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": job}))
    (folder / "train.log").write_text(log)
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Two losses; two seeds and one."""
    folder = tmp_path / "sweep"
    result(folder / "0/result.json", settings("mse", 0), AP=0.5, AP50=0.7, AR=0.6, speed=10.0)
    result(folder / "1/result.json", settings("mse", 1), AP=0.54, AP50=0.8, AR=0.7, speed=13.0)
    result(folder / "2/result.json", settings("swahr", 0), AP=0.6, AP50=0.9, AR=0.8, speed=9.0)
    return folder


def test_markdown(swahr, sweep):
    outcome = swahr("table", sweep)
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert outcome.stdout == (
        "| loss | seeds | AP | AP50 |\n"
        "|---|---|---|---|\n"
        "| mse | 2 | 52.00 ± 2.83 | 75.00 ± 7.07 |\n"
        "| swahr | 1 | 60.00 | 90.00 |\n"
        "\n"
        "Metrics are means and sample standard deviations over seeds, AP and AR in percent.\n"
        "\n"
        "Commit: c0ffee.\n"
    )


def test_csv(swahr, sweep):
    text = swahr("table", sweep, "--format", "csv", "--metrics", "AP, images_per_second").stdout
    lines = text.splitlines()
    assert lines[3:] == [
        "# Metrics are means and sample standard deviations over seeds, AP and AR are fractions.",
        "# Commit: c0ffee.",
    ]
    mse, adaptive = csv.DictReader(lines[:3])
    assert (mse["loss"], mse["seeds"]) == ("mse", "2")
    assert float(mse["AP"]) == pytest.approx(0.52, abs=1e-12)
    assert float(mse["AP_std"]) == pytest.approx(0.02 * 2**0.5, abs=1e-12)
    assert float(mse["images_per_second"]) == pytest.approx(11.5, abs=1e-12)
    assert adaptive == {
        "loss": "swahr", "seeds": "1", "AP": "0.6", "AP_std": "",
        "images_per_second": "9.0", "images_per_second_std": "",
    }  # fmt: skip


def test_latex(swahr, tmp_path):
    for i, loss in enumerate(("50%_a", "b&c")):
        result(tmp_path / f"runs/{i}/metrics.json", settings(loss), AP_easy=0.25 * (i + 1))
    for seed, ap in ((1, 0.3), (2, 0.2)):
        result(tmp_path / f"runs/seed{seed}/metrics.json", settings("50%_a", seed), AP_easy=ap)
    file = tmp_path / "tables/table.tex"
    assert swahr("table", tmp_path / "runs", "--format", "latex", "--output", file).result == {
        "output": str(file), "rows": 2, "runs": 4, "failed": 0,
    }  # fmt: skip
    assert file.read_text(encoding="utf-8") == (
        "\\begin{tabular}{lll}\n"
        "\\hline\n"
        "loss & seeds & AP\\_easy \\\\\n"
        "\\hline\n"
        "50\\%\\_a & 3 & 25.00 $\\pm$ 5.00 \\\\\n"
        "b\\&c & 1 & 50.00 \\\\\n"
        "\\hline\n"
        "\\end{tabular}\n"
        "\\par Metrics are means and sample standard deviations over seeds, AP and AR in percent.\n"
        "\\par Commit: c0ffee.\n"
    )


def rows(outcome):
    """The cells of a Markdown table, by header."""
    assert outcome.code == 0, outcome.stderr
    header, _, *lines = [
        [cell.strip() for cell in line[1:-1].replace(r"\|", "/").split("|")]
        for line in outcome.stdout.splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(header, cells, strict=True)) for cells in lines]


def test_runs_without_a_result_are_shown_in_their_row_with_the_reason(swahr, sweep):
    reason = f"{FAILED}ValueError: first\n[time] started again\n{FAILED}OSError: disk | full\n"
    without_result(sweep / "3", settings("swahr", 1), reason)
    without_result(sweep / "4", settings("swahr", 2), "[time] 4 training images\n")
    (without_result(sweep / "5", settings("mse", 2)) / "interrupted.ckpt").touch()
    mse, adaptive = rows(swahr("table", sweep))
    assert (mse["seeds"], mse["AP"], mse["failed"]) == ("2", "52.00 ± 2.83", "seed 2: interrupted")
    assert (adaptive["seeds"], adaptive["AP"]) == ("1", "60.00")
    assert adaptive["failed"] == "seed 1: OSError: disk / full; seed 2: unfinished"


def test_a_failed_run_alone(swahr, tmp_path):
    without_result(tmp_path / "run", settings())
    assert rows(swahr("table", tmp_path)) == [{"seeds": "0", "failed": "seed 0: unfinished"}]


def test_a_damaged_result_does_not_hide_the_other_runs(swahr, sweep):
    (sweep / "2/result.json").write_text("{")
    mse, damaged = rows(swahr("table", sweep))
    assert mse["AP"] == "52.00 ± 2.83"
    assert damaged["AP"] == "n/a"
    assert "2/result.json: expected JSON" in damaged["failed"]


def test_a_repaired_run_keeps_its_failed_attempt(swahr, sweep):
    without_result(sweep / "0_first", settings("mse", 0))
    mse, _ = rows(swahr("table", sweep))
    assert (mse["seeds"], mse["failed"]) == ("2", "seed 0: unfinished")


@pytest.mark.parametrize("changed", [{"images": 2}, {"sha256": "abcdef"}])
def test_different_test_data_are_a_warning(swahr, sweep, changed):
    result(sweep / "3/result.json", settings("swahr", 1), AP=0.6, AP50=0.9, **changed)
    outcome = swahr("table", sweep)
    warning = (
        "Warning: test data differ, so that metrics cannot be compared (3 x val.json, 3 images, checksum "
    )
    assert outcome.stderr.startswith(warning)
    assert "; 1 x val.json, " in outcome.stderr
    assert outcome.stderr in outcome.stdout
    for form in ("csv", "latex"):
        assert "Warning: test data differ" in swahr("table", sweep, "--format", form).stdout


def test_rendered_crowds_differ_by_their_settings_and_not_by_their_folder(swahr, tmp_path):
    def rendered(i, **node):
        node = {"_target_": "swahr.synthetic.SyntheticSource", **node}
        stated = settings("mse", i, data={"module": {"val": node}})
        result(tmp_path / f"runs/{i}/result.json", stated, AP=0.5)

    rendered(0, size=2, layouts="here/layouts.json")
    rendered(1, size=2, layouts="there/layouts.json")
    assert swahr("table", tmp_path / "runs").stderr == ""
    rendered(2, size=2, layouts="there/others.json")
    assert "SyntheticSource, 3 images" in swahr("table", tmp_path / "runs").stderr


def test_a_seed_that_occurs_again_is_not_averaged(swahr, sweep):
    result(sweep / "3/result.json", settings("mse", 1), AP=0.1, AP50=0.1)
    outcome = swahr("table", sweep)
    first, _, again = rows(outcome)
    assert first["AP"] == "52.00 ± 2.83"
    assert (again["seeds"], again["AP"]) == ("1", "10.00")
    assert again["run"] == str(sweep / "3/result.json")
    assert "a seed of the same settings occurs again" in outcome.stderr
    assert str(sweep / "3/result.json") in outcome.stderr


def test_a_run_given_twice_counts_once(swahr, sweep):
    assert swahr("table", sweep, sweep / "0", sweep / "1/result.json").stdout == swahr("table", sweep).stdout


def test_undefined_metrics_are_not_averaged(swahr, sweep):
    for i, apm in enumerate((0.4, -1.0)):
        result(sweep / f"{i}/result.json", settings("mse", i), AP=0.5, APM=apm, APL=-1.0)
    outcome = swahr("table", sweep)
    mse, adaptive = rows(outcome)
    assert (mse["APM"], adaptive["APM"]) == ("n/a", "n/a")
    assert "APL" not in mse
    assert outcome.stderr == "Warning: APM: n/a where only some runs of a row have a value.\n"


def test_settings_that_nobody_overrode_tell_rows_apart(swahr, tmp_path):
    for i, rate in enumerate((0.1, 0.2)):
        result(tmp_path / f"{i}/result.json", settings("mse", trainer={"rate": rate, "n": 1}), AP=0.5)
    assert [row["trainer.rate"] for row in rows(swahr("table", tmp_path))] == ["0.1", "0.2"]


def test_earlier_names_of_classes_are_no_difference(swahr, tmp_path):
    for i, name in enumerate(("swahr.training.ExportBest", "swahr.runs.ExportBest")):
        result(tmp_path / f"{i}/result.json", settings("mse", i, best={"_target_": name}), AP=0.5)
    (row,) = rows(swahr("table", tmp_path))
    assert row["seeds"] == "2"


def test_settings_that_differ_together_are_all_shown(swahr, tmp_path):
    for i, value in enumerate((True, False)):
        stated = settings("mse", flip=value, project=value)
        stated["overrides"] += [f"flip={value}", f"project={value}"]
        result(tmp_path / f"{i}/result.json", stated, AP=0.5)
    assert [set(row) for row in rows(swahr("table", tmp_path))] == [{"flip", "project", "seeds", "AP"}] * 2


def test_results_without_settings_have_a_row_each(swahr, tmp_path):
    files = [result(tmp_path / name, {}, AP=0.5) for name in ("a.json", "b.json")]
    assert [row["run"] for row in rows(swahr("table", *files))] == list(map(str, files))


def test_runs_are_in_the_order_of_a_sweep(swahr, tmp_path):
    for i in (10, 2, 1):
        result(tmp_path / f"{i}_x/result.json", settings(f"loss{i}", trainer=i), AP=0.5)
    assert [row["loss"] for row in rows(swahr("table", tmp_path))] == ["loss1", "loss2", "loss10"]


def test_differing_commits_are_listed(swahr, sweep):
    result(sweep / "3/result.json", settings("swahr", 1), AP=0.6, AP50=0.9, commit="decaf")
    assert "\nCommit: c0ffee, decaf.\n" in swahr("table", sweep).stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere: expected runs or a result file, but there is nothing"),
        (["empty"], "empty: expected runs of `swahr train` or `swahr evaluate`, found none; give"),
        (["sweep", "empty"], "empty: expected runs of"),
        (["list.json"], "list.json: expected `metrics` and `stamp`, as in result.json"),
        (["sweep", "--metrics", "AP,mAP"], "--metrics: expected names among images, images_per_second, AP, "),
    ],
)
def test_errors(swahr, sweep, arguments, expected):
    (sweep.parent / "empty").mkdir()
    (sweep.parent / "list.json").write_text("[1, 2]")
    assert expected in swahr("table", *arguments).error


def test_an_unwritable_output(swahr, sweep):
    (sweep / "file").touch()
    assert "cannot write" in swahr("table", sweep, "--output", sweep / "file/table.md").error


def test_a_sweep_with_a_failed_run_and_evaluations_of_it(swahr, tmp_path):
    small = ["experiment=smoke", "training.callbacks.pictures=null", "training.callbacks.curves=null"]
    learning = "training.optimiser.lr=1e30,0.001"
    assert swahr("train", "-m", *small, learning, "seed=0,1", f"output={tmp_path}/runs").code == 1
    failed, trained = rows(swahr("table", "runs"))
    assert (failed["training.optimiser.lr"], failed["seeds"], failed["AP"]) == ("1e+30", "0", "n/a")
    assert failed["failed"].startswith("seed 0: FloatingPointError: the loss terms")
    assert "seed 1: FloatingPointError" in failed["failed"]
    assert (trained["training.optimiser.lr"], trained["seeds"], trained["failed"]) == ("0.001", "2", "")
    for seed in (0, 1):
        (best,) = tmp_path.glob(f"runs/*seed-{seed}*lr-0.001/best.safetensors")
        test = ["pictures=0", f"output={tmp_path}/tests/{seed}"]
        assert swahr("evaluate", "-m", f"checkpoint={best}", "decode=quarter,dark", *test).code == 0
    evaluated = rows(swahr("table", "tests"))
    assert [(row["decode"], row["seeds"]) for row in evaluated] == [("quarter", "2"), ("dark", "2")]
    assert all(set(row) == {"decode", "seeds", "AP", "AP50", "AP75"} for row in evaluated)
    assert swahr("table", "tests", "runs").stderr == ""  # validated and tested on the same images
    (stamped,) = tmp_path.glob("runs/*seed-1*lr-0.001/result.json")
    content = json.loads(stamped.read_text())
    assert content["metrics"] == content["last_validation"]
    assert (content["images"], content["stamp"]["seed"]) == (2, 1)
    stamped.unlink()  # what Hydra and the run wrote before the end are the same settings
    for name in ("config.yaml", "metrics.csv"):
        (row,) = rows(swahr("table", *stamped.parents[1].glob("*lr-0.001")))
        assert (row["seeds"], row["failed"]) == ("1", "seed 1: unfinished")
        (stamped.parent / name).unlink()


def test_a_failed_evaluation(swahr, checkpoint, tmp_path):
    assert swahr("evaluate", f"checkpoint={checkpoint}", "device=none", f"output={tmp_path}/run").code == 1
    (row,) = rows(swahr("table", "run"))
    assert row["failed"].startswith("seed 0: ValueError: device")
