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


def test_weights_that_half_precision_cannot_hold(tmp_path: Path, monkeypatch) -> None:
    checkpoint = load_checkpoint(CHECKPOINT)
    checkpoint.weights[next(iter(checkpoint.weights))].fill_(1e6)
    monkeypatch.setattr("pack_weights.load_checkpoint", lambda path: checkpoint)
    with pytest.raises(ValueError, match="beyond the range of half precision"):
        pack(CHECKPOINT, tmp_path / "packed.safetensors")
