"""Packed weights predict the same and name no folders."""

from pathlib import Path

import pytest
import torch
import yaml
from pack_weights import pack

from swahr import Predictor, load_checkpoint

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoint" / "format_2.safetensors"


def test_a_packed_checkpoint_predicts_the_same_and_has_no_paths(tmp_path: Path) -> None:
    packed = tmp_path / "packed.safetensors"
    assert pack(CHECKPOINT, packed)["bytes"] < 0.8 * CHECKPOINT.stat().st_size
    before, after = load_checkpoint(CHECKPOINT), load_checkpoint(packed)
    for name, tensor in before.weights.items():
        torch.testing.assert_close(after.weights[name].to(tensor.dtype), tensor, rtol=1e-3, atol=1e-6)
    run = yaml.safe_load(after.stamp["config"])
    assert (run["output"], run["ckpt"], run["data"]["root"]) == (None, None, "???")
    assert before.skeleton == after.skeleton
    assert Predictor.from_checkpoint(packed, device="cpu").skeleton == before.skeleton


def test_no_path_of_the_run_is_left(tmp_path: Path, monkeypatch) -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    run = yaml.safe_load(checkpoint.stamp["config"]) | {"weights": "/data/me/w.pth", "output": "/data/me/out"}
    run["data"] = run["data"] | {"root": "/data/me/data", "files": ["${data.root}/a.json", "~/me/b.json"]}
    checkpoint.stamp.update(config=yaml.safe_dump(run), overrides=["data.root=/data/me/data"])
    monkeypatch.setattr("pack_weights.load_checkpoint", lambda path: checkpoint)
    pack(CHECKPOINT, tmp_path / "packed.safetensors")
    stamp = load_checkpoint(tmp_path / "packed.safetensors").stamp
    found = yaml.safe_load(stamp["config"])
    assert (found["weights"], found["data"]["root"]) == ("w.pth", "???")
    assert found["data"]["files"] == ["${data.root}/a.json", "b.json"]
    assert "me/" not in str(stamp)


def test_weights_that_half_precision_cannot_hold(tmp_path: Path, monkeypatch) -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    checkpoint.weights[next(iter(checkpoint.weights))].fill_(1e6)
    monkeypatch.setattr("pack_weights.load_checkpoint", lambda path: checkpoint)
    with pytest.raises(ValueError, match="beyond the range of half precision"):
        pack(CHECKPOINT, tmp_path / "packed.safetensors")
