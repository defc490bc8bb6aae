"""Timing: comparison before clocks, medians over rounds, tables."""

import csv
import json
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark import benchmark
from benchmarks.crowd import crowd_batch, crowd_maps
from benchmarks.losses import heatmap_criterion
from benchmarks.measure import Case, Row, measure
from benchmarks.networks import can_compile
from benchmarks.poses import compare_poses
from benchmarks.report import update_page
from benchmarks.step import step_cases
from benchmarks.synchronisation import synchronisations
from benchmarks.training import compare_losses, random_maps
from stamped import write_csv

from swahr.cli.command import compose_config
from swahr.nodes import instantiate

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def differ(ours: int, plain: int) -> None:
    assert ours == plain, f"{ours} is not {plain}"


def case(ours, plain) -> Case:
    variants = {"ours": ours, "plain": plain}
    return Case("things", "counting", 3, variants, differ, notes={"peak": 1.5}, work={"images": 6})


def test_no_time_where_results_differ():
    with pytest.raises(ValueError, match=r"things, counting, 3 people: .*\n.*1 is not 2"):
        measure(case(lambda: 1, lambda: 2), rounds=3, seconds=9.0, device=CPU)


def test_variants_take_turns_and_ratios_are_of_one_round():
    calls: list[str] = []
    rows = measure(
        case(lambda: calls.append("a"), lambda: calls.append("b")), rounds=4, seconds=9.0, device=CPU
    )
    assert calls == ["a", "b"] * 5
    assert [row.variant for row in rows] == ["ours", "plain"]
    assert [row.rounds for row in rows] == [4, 4]
    assert (rows[0].ratio_low, rows[0].ratio, rows[0].ratio_high) == (1, 1, 1)
    assert rows[1].ratio_low <= rows[1].ratio <= rows[1].ratio_high
    assert [set(row.notes) for row in rows] == [
        {"images/s", "peak"},
        {"images/s"},
    ]
    assert rows[0].low_ms <= rows[0].median_ms <= rows[0].high_ms


def test_slow_things_have_one_round():
    assert measure(case(lambda: 1, lambda: 1), rounds=9, seconds=0.0, device=CPU)[0].rounds == 1


def test_tables_are_updated_in_place(tmp_path: Path):
    rows = measure(case(lambda: 1, lambda: 1), rounds=1, seconds=1.0, device=CPU)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: things -->\nold\n<!-- end -->\nafter\n")
    for _ in range(2):
        update_page(page, rows, "a machine")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert text.count("| counting | 3 | plain |") == 1
    assert "old" not in text
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="table: things"):
        update_page(page, rows, "a machine")


def test_a_row_says_whether_its_ratio_is_within_its_bound():
    (row, _) = measure(case(lambda: 1, lambda: 1), rounds=1, seconds=1.0, device=CPU)
    assert "bound" not in row.notes_text()
    assert replace(row, ratio=0.0199, bound=0.02).notes_text().endswith("; **within the bound** of 0.02")
    assert replace(row, ratio=0.0201, bound=0.02).notes_text().endswith("; **above the bound** of 0.02")


def test_losses_are_compared_to_a_fraction_of_each_gradient():
    tiny = torch.tensor([1e-7, -3e-8, 0.0])
    expected = (torch.tensor(2.0), [tiny, 1e6 * tiny])
    compare_losses((torch.tensor(2.00001), [tiny + 1e-13, 1e6 * tiny]), expected)
    for loss, error in ((2.0, 1e-11), (2.0001, 0.0)):
        with pytest.raises(AssertionError):
            compare_losses((torch.tensor(loss), [tiny + error, 1e6 * tiny]), expected)


def test_losses_are_compared_where_adaptive_ones_do_something():
    config, names = compose_config("benchmark", SMALL), {"scale_maps", "tags"}
    (output, targets), (same, _) = (random_maps(config, names, 3, images=2, device=CPU) for _ in range(2))
    assert [set(maps.fields) for maps in output] == [{"heatmaps", *names}, {"heatmaps", "scale_maps"}]
    for maps, again, target in zip(output, same, targets.maps, strict=True):
        assert torch.equal(maps.scale_maps, again.scale_maps)
        assert maps.scale_maps[target.heatmaps > 0].std() == pytest.approx(0.5, abs=0.05)


def test_poses_match_in_any_order_and_within_a_twentieth_of_a_pixel(poses_at):
    found = compare_poses([poses_at(0.0, 10.01, -9.99)], [poses_at(0.0, 0.0, 0.01)])
    assert found == {"poses": 3, "unmatched": 0}
    with pytest.raises(AssertionError, match="2 of 4 poses"):
        compare_poses([poses_at(0.0, 0.1)], [poses_at(0.0, 0.0)])


def test_nobody_is_no_agreement(poses_at):
    nobody = poses_at(0.0).select(np.zeros(1, dtype=bool))
    with pytest.raises(AssertionError, match="expected poses to compare with"):
        compare_poses([nobody], [nobody])


def test_the_csv_file_begins_with_its_provenance(tmp_path: Path):
    rows = measure(case(lambda: 1, lambda: 1), rounds=1, seconds=1.0, device=CPU)
    write_csv(tmp_path / "x.csv", [row.to_dict() for row in rows], {"commit": "abc"})
    comment, *lines = (tmp_path / "x.csv").read_text().splitlines()
    assert json.loads(comment.removeprefix("# ")) == {"commit": "abc"}
    assert [row["variant"] for row in csv.DictReader(lines)] == ["ours", "plain"]


def test_crowds_depend_on_the_seed_only():
    settings = {"keypoints": 3, "size": (24, 32), "project": True, "missing": 0.2, "device": CPU}
    maps, same, other = (crowd_maps(4, seed=seed, **settings) for seed in (0, 0, 1))
    assert maps.heatmaps.shape == (1, 3, 48, 64)
    assert maps.tags.shape == (1, 3, 48, 64, 2)
    assert torch.equal(maps.heatmaps, same.heatmaps)
    assert not torch.equal(maps.heatmaps, other.heatmaps)
    batch = crowd_batch(4, images=2, keypoints=3, size=(32, 32), device=CPU, seed=0)
    assert batch.keypoints.shape == (2, 4, 3, 2)
    assert (batch.keypoints > 0).all()
    assert (batch.keypoints < 32).all()


SMALL = [
    "people=[3]", "plain_people=3", "rounds=1", "decode_size=[96,128]", "train_size=64", "train_images=2",
    "evaluation_images=20", "loader_images=5", "model@forward.model=tiny", "forward.size=64",
    "forward.compile=[]", "forward.others=[[2,32]]",
    "model@step.models.w32=tiny", "step.images=2", "end_to_end.images=4", "end_to_end.size=128",
    "second_stage.size=64", "second_stage.crop_size=[64,32]",
]  # fmt: skip


def run(folder: Path, *sections: str) -> list[Row]:
    chosen = f"sections=[{','.join(sections)}]"
    return benchmark(compose_config("benchmark", [*SMALL, chosen, f"output={folder}"]))


def test_every_section_equals_its_plain_version(tmp_path: Path):
    rows = run(tmp_path / "run", "limits", "decode", "targets", "losses", "step", "loader", "evaluation")
    compared = {row.section for row in rows if row.variant == "plain"}
    assert compared == {"decode", "targets", "losses", "loader", "evaluation"}
    assert {row.section for row in rows} == compared | {"limits", "decode steps", "training step"}
    alone = [row.bound for row in rows if row.variant == "losses alone"]
    assert alone == [None, None, 0.02, 0.02]
    steps = {row.name.split(": ")[1] for row in rows if row.section == "decode steps"}
    assert steps == {"peaks", "grouping", "refinement (QuarterOffset)", "refinement (Dark)", "recovery"}
    loading = [row for row in rows if row.section == "loader"]
    assert [row.variant for row in loading] == 2 * ["ours", "plain", "training", "training while loading"]
    for row in loading:  # the incomplete batch is left out
        assert row.notes == pytest.approx({"images/s": 4000 / row.median_ms})
    check_shares([row for row in rows if row.name.startswith("a step of")])
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"benchmark.csv", "benchmark.json", "benchmark.png"}


def test_the_second_stage_is_timed_beside_the_first(tmp_path: Path):
    rows = run(tmp_path / "run", "second_stage")
    assert [row.variant for row in rows] == ["ours", "second stage", "ours", "plain"]
    assert [row.bound for row in rows] == [None, 1.5, None, None]
    assert rows[2].notes == pytest.approx({"people/s": 3000 / rows[2].median_ms})


def check_shares(rows: list[Row]) -> None:
    """The heatmap loss's share of a step of each network and precision, with a goal for w32."""
    share = [row for row in rows if row.variant == "heatmap loss alone"]
    steps = ["a step of tiny, fp32", "a step of tiny, bf16", "a step of w32, fp32", "a step of w32, bf16"]
    assert [", ".join(row.name.split(", ")[:2]) for row in share] == steps
    step = {row.name: row.median_ms for row in rows if row.variant == "ours"}
    assert [row.ratio for row in share] == pytest.approx([row.median_ms / step[row.name] for row in share])
    assert [row.bound for row in share] == [None, None, 0.02, 0.02]
    assert all(row.bound is None for row in rows if row.variant == "ours")


def test_the_heatmap_loss_is_all_but_the_tags():
    criterion = instantiate(compose_config("benchmark", SMALL).loss)
    chosen = heatmap_criterion(criterion)
    assert list(chosen.terms) == ["heatmap", "scale_map"]
    assert chosen.needs == {"heatmaps", "scale_maps"}


@pytest.mark.usefixtures("untyped")  # sizes are tensors while a network is exported
def test_every_backend_equals_the_plain_module(tmp_path: Path):
    rows = run(tmp_path / "run", "forward", "end_to_end")
    names = {row.name.split(",")[0] for row in rows if row.variant == "plain"}
    backends = {f"{name} fp32" for name in ("onnxruntime", "openvino") if find_spec(name)}
    expected = {"PyTorch fp32", "PyTorch bf16"} | (backends if find_spec("onnx") else set())
    assert names - {"openvino bf16"} == expected


def test_backends_that_are_not_installed_are_left_out(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("benchmarks.networks.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    rows = run(tmp_path / "run", "forward")
    assert all(row.name.startswith("PyTorch") for row in rows)
    assert "pip install 'swahr[onnx,openvino]'" in caplog.text
    assert not can_compile()
    assert "no C++ compiler" in caplog.text


@pytest.mark.gpu
def test_a_training_step_never_synchronises():
    config = compose_config("benchmark", SMALL)
    step = next(step_cases(config, [], DEVICE)).variants["ours"]
    step()  # the first makes what is kept
    assert synchronisations(step, DEVICE) == {}


def test_a_training_step_needs_no_values_from_its_device(monkeypatch):
    # Like a GPU's, tensors on "meta" are ahead of Python, which gets an error where it would have to wait.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows nothing of "meta"
    step = next(step_cases(compose_config("benchmark", SMALL), [], torch.device("meta"))).variants["ours"]
    step()


def test_synchronisations_are_counted():
    value = torch.ones(3, device=DEVICE)
    found = synchronisations(lambda: (value.sum().item(), value.nonzero()), DEVICE)
    assert found["aten::_local_scalar_dense"] == 1
    assert found["aten::nonzero"] == 1


def test_documented_command_lines_compose(repository: Path):
    """On lines of their own and in backticks."""
    for page in ("README.md", "docs/architecture.md", "docs/performance.md", "conf/benchmark.yaml"):
        text = (repository / page).read_text(encoding="utf-8")
        commands = re.findall(r"(?:^ *|`)python experiments/benchmark\.py([^`\n]*)", text, flags=re.MULTILINE)
        assert commands, page
        for command in commands:
            compose_config("benchmark", shlex.split(command, comments=True))


def test_an_unknown_section(tmp_path: Path):
    with pytest.raises(ValueError, match="expected some of"):
        benchmark(compose_config("benchmark", ["sections=[lunch]", f"output={tmp_path / 'run'}"]))


MEMORY = """
import torch
from benchmarks.memory import peak_bytes
held = []
def take():
    torch.ones(1 << 25)  # given back before the end
    held.append(torch.ones(1 << 24))
cpu = torch.device("cpu")
print(peak_bytes(take, cpu), peak_bytes(lambda: torch.ones(1 << 22), cpu))
"""


def test_memory_that_is_taken_is_seen(repository: Path):
    # In a process of its own: commands, which other tests run in this one, let glibc keep freed memory.
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=repository / "experiments",
        capture_output=True,
        text=True,
        check=True,
    )
    peak, again = done.stdout.split()
    if peak == "None":
        pytest.skip("the system does not say how much memory a process took")
    assert (1 << 27) * 0.9 < int(peak) < (1 << 27) * 1.25
    assert int(again) < (1 << 25)
