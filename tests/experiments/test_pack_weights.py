"""Packed weights predict the same and name no folders."""

from pathlib import Path

import pytest
import torch
import yaml
from pack_weights import pack, pack_discriminators
from safetensors.torch import load_file
from torch import nn

from swahr import Predictor, load_checkpoint
from swahr.second_stage import ConfidenceDiscriminator, PoseDiscriminator

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


def test_discriminators_are_packed_from_the_checkpoint_of_an_adversarial_training(tmp_path: Path) -> None:
    build = {"pose": PoseDiscriminator, "confidence": ConfidenceDiscriminator}
    judges = nn.ModuleDict({name: kind(5, maps=2) for name, kind in build.items()})
    state = {f"discriminators.{name}": value.clone() for name, value in judges.state_dict().items()}
    ckpt, packed = tmp_path / "last.ckpt", tmp_path / "packed.safetensors"
    torch.save({"state_dict": state | {"network.conv.weight": torch.ones(2)}}, ckpt)
    pack_discriminators(ckpt, packed)
    found = load_file(packed)
    assert {value.dtype for value in found.values()} == {torch.float16}
    judges.load_state_dict(found)
    for name, value in judges.state_dict().items():
        torch.testing.assert_close(value, state[f"discriminators.{name}"], atol=1e-3, rtol=1e-3)
    torch.save({"state_dict": {"network.conv.weight": torch.ones(2)}}, ckpt)
    with pytest.raises(ValueError, match=r"last\.ckpt of an adversarial training, got no discriminators"):
        pack_discriminators(ckpt, packed)
