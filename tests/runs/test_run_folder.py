import csv
from types import SimpleNamespace

import pytest
import torch

from swahr.build import build_network_from
from swahr.checkpoint import load_checkpoint
from swahr.loss import Criterion, HeatmapRegression, TagLoss
from swahr.runs import WarnOfEqualTags
from swahr.runs.watching import foreground_shares
from swahr.structures import Maps, MapTargets, Targets


def test_a_run_leaves_checkpoints_curves_and_pictures(make_run, tmp_path):
    run = make_run(tmp_path, "trainer.log_every_n_steps=1")
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "best.safetensors",
        "last.ckpt",
        "metrics.csv",
        "pictures",
        "tensorboard",
        "loss.png",
        "ap.png",
    } <= names
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["epoch_0000.png"]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["train/loss"]) for row in rows) == 2
    assert [row["val/AP"] for row in rows if row["val/AP"]]
    parts = [
        name
        for name in rows[0]
        if name.startswith("train/") and name not in ("train/loss", "train/tag_separation")
    ]
    row = next(row for row in rows if row["train/loss"])
    assert float(row["train/loss"]) == pytest.approx(sum(float(row[name]) for name in parts), rel=1e-4)


def test_callbacks_that_are_left_out_are_not_replaced(make_run, tmp_path):
    """Lightning's own bar would write to stdout, where commands print one JSON object."""
    trainer = make_run(tmp_path / "all").trainer
    assert type(trainer.progress_bar_callback).__name__ == "RichProgressBar"
    assert len(trainer.checkpoint_callbacks) == 1
    without = ("training.callbacks.progress=null", "training.callbacks.last=null")
    trainer = make_run(tmp_path / "none", *without).trainer
    assert trainer.progress_bar_callback is None
    assert trainer.checkpoint_callbacks == []


def test_both_checkpoints_hold_the_averaged_weights(make_run, tmp_path):
    run = make_run(tmp_path)
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    best, last = load_checkpoint(tmp_path / "best.safetensors"), load_checkpoint(tmp_path / "last.ckpt")
    assert best.weights.keys() == last.weights.keys()
    assert all(torch.equal(best.weights[name], last.weights[name]) for name in best.weights)
    current = torch.load(tmp_path / "last.ckpt", weights_only=True)["current_model_state"]
    assert any(not torch.equal(value, current[f"network.{name}"]) for name, value in best.weights.items())
    network = build_network_from(best)
    assert network.strides == (4, 2)
    assert best.stamp["seed"] == 0


def test_the_best_weights_are_those_of_the_highest_ap_not_the_last(make_run, tmp_path):
    run = make_run(
        tmp_path, "trainer.max_epochs=3", "training.callbacks.ema=null", "trainer.num_sanity_val_steps=0"
    )
    measured = [0.3, 0.5, 0.4]
    seen = []

    def evaluate(_):
        seen.append({name: value.clone() for name, value in run.module.network.state_dict().items()})
        return {"AP": measured[len(seen) - 1]}

    run.module.evaluate = evaluate
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    best = load_checkpoint(tmp_path / "best.safetensors").weights
    same = [all(torch.equal(best[name], value) for name, value in weights.items()) for weights in seen]
    assert same == [False, True, False]


def test_checkpoint_of_another_architecture_or_skeleton_is_refused(make_run, tmp_path):
    run = make_run(tmp_path)
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    path = tmp_path / "best.safetensors"
    with pytest.raises(ValueError, match=r"best\.safetensors.*another architecture.*size mismatch.*\[16, 64"):
        make_run(tmp_path / "wider", "model.backbone.channels=[8,16,32,64]", f"weights={path}")
    with pytest.raises(ValueError, match=r"best\.safetensors.*17 keypoints.*'crowdpose'"):
        make_run(tmp_path / "crowd", "data.skeleton=crowdpose", f"weights={path}")


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    damaged = tmp_path / "best.safetensors"
    damaged.write_bytes(b"not tensors")
    with pytest.raises(ValueError, match=r"best\.safetensors: not a readable safetensors file"):
        load_checkpoint(damaged)
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nothing.safetensors")
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {"network.a": torch.zeros(1)}}, foreign)
    with pytest.raises(ValueError, match="carries no swahr description"):
        load_checkpoint(foreign)
    (tmp_path / "torn.ckpt").write_bytes(foreign.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"torn\.ckpt: not a readable checkpoint"):
        load_checkpoint(tmp_path / "torn.ckpt")


@pytest.mark.parametrize(
    ("separations", "warns"),
    [([0.5] * 12, True), ([0.5] * 9 + [1.5], False), ([0.5] * 9, False), ([float("nan")] * 12, False)],
    ids=["equal", "came apart", "too early", "one person per image"],
)
def test_tags_that_stay_equal_are_warned_of_once(separations, warns, caplog, untyped):
    watch = WarnOfEqualTags(steps=500, every=50)
    for i, value in enumerate(separations, start=1):
        for step in (50 * i - 1, 50 * i, 50 * i, 50 * i):  # batches that are accumulated share a step
            metrics = {"train/tag_separation": torch.tensor(value)}
            watch.on_train_batch_end(
                SimpleNamespace(global_step=step, callback_metrics=metrics), None, 0, 0, 0
            )
    assert caplog.text.count("tags do not tell people apart") == warns


def test_the_share_of_the_foreground_in_the_heatmap_loss():
    heatmaps = torch.zeros(1, 1, 2, 2)
    heatmaps[..., 0, :] = 1.0
    targets = MapTargets(4, torch.tensor([[[True, True], [True, False]]]), {"heatmaps": heatmaps})
    predicted = Maps(4, {"heatmaps": torch.full((1, 1, 2, 2), 0.5)})
    criterion = Criterion({"heatmap": HeatmapRegression(), "tags": TagLoss()})
    index = torch.zeros(1, 0, 1, dtype=torch.long)
    shares = foreground_shares(criterion, (predicted,), Targets((targets,), index))
    assert shares == {4: pytest.approx(2 / 3)}  # of three valid pixels with the same error
