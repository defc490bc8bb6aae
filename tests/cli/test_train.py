import json

import pytest
import torch

from swahr.cli.command import compose_config
from swahr.cli.train import train


def smoke(folder, *overrides):
    return compose_config("train", ["experiment=smoke", f"output={folder}", *overrides])


def test_a_run_that_ends_within_an_epoch_can_be_resumed_and_keeps_its_best(tmp_path, capsys):
    train(smoke(tmp_path / "first", "trainer.max_steps=1"))
    assert (tmp_path / "first" / "last.ckpt").is_file()
    (tmp_path / "first" / "best.safetensors").write_bytes(b"the best so far")
    train(smoke(tmp_path / "second", f"ckpt={tmp_path}/first/last.ckpt", "trainer.limit_val_batches=0"))
    assert (tmp_path / "second" / "best.safetensors").read_bytes() == b"the best so far"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["best"].endswith("best.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("best.safetensors", None, r"ckpt=.*best\.safetensors: expected a training run's \.ckpt; .*weights="),
        ("last.ckpt", "no JSON", r"last\.ckpt: the description inside is damaged \(JSONDecodeError"),
        ("last.ckpt", "[]", r"last\.ckpt: the description inside is damaged \(AttributeError"),
        ("last.ckpt", '{"format": 1}', r"last\.ckpt: expected a training run of this version of swahr"),
    ],
)
def test_what_cannot_be_resumed_is_said_before_anything_is_built(name, content, message, tmp_path):
    path = tmp_path / name
    torch.save({"swahr": content, "state_dict": {}}, path)
    with pytest.raises(ValueError, match=message):
        train(smoke(tmp_path / "run", f"ckpt={path}"))
    assert not (tmp_path / "run").exists()


def test_validation_looks_at_people_of_the_size_that_training_shows():
    config = compose_config("train", [])
    assert config.aggregate.input_size == config.data.module.augmentation.input_size
