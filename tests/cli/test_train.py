import json

import numpy as np
import pytest
import torch

from swahr.checkpoint import load_checkpoint
from swahr.cli.command import compose_config
from swahr.cli.resuming import read_resumable
from swahr.cli.train import train


def smoke(folder, *overrides):
    return compose_config("train", ["experiment=smoke", f"output={folder}", *overrides])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder of a run of one epoch, and its best AP."""
    folder = tmp_path_factory.mktemp("first") / "run"
    return folder, train(smoke(folder))


def test_a_resumed_run_keeps_its_best(first, tmp_path, capsys):
    folder, _ = first
    resume = (f"ckpt={folder}/last.ckpt", "trainer.max_epochs=2", "trainer.limit_val_batches=0")
    train(smoke(tmp_path / "second", *resume))
    best = tmp_path / "second" / "best.safetensors"
    assert best.read_bytes() == (folder / "best.safetensors").read_bytes()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["best"] == str(best)
    first_result, result = (
        json.loads((f / "result.json").read_text()) for f in (folder, tmp_path / "second")
    )
    assert result["metrics"] == first_result["metrics"]
    assert "AP50" in result["metrics"]
    assert result["last_validation"] == {}
    assert result["stamp"]["seed"] == 0
    assert "max_epochs: 2" in result["stamp"]["config"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_resumed_run_without_its_best_measures_it_anew(first, damaged, tmp_path, caplog):
    (tmp_path / "alone").mkdir()
    content = torch.load(first[0] / "last.ckpt", weights_only=True)
    content["callbacks"]["ExportBest"]["best"] = 0.9
    torch.save(content, tmp_path / "alone/last.ckpt")
    if damaged:
        (tmp_path / "alone/best.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    run = smoke(tmp_path / "second", f"ckpt={tmp_path}/alone/last.ckpt", "trainer.max_epochs=2")
    assert 0 <= train(run) < 0.9
    assert "best.safetensors (AP 0.9000) was not beside the checkpoint" in caplog.text
    assert ("left behind: " in caplog.text) == damaged
    assert load_checkpoint(tmp_path / "second/best.safetensors").weights


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.max_epochs=1", r"expected a run with epochs left, but it has trained 1 and .*max_epochs=1"),
        ("trainer.max_steps=2", r"expected a run with steps left, but it has trained 2 and .*max_steps=2"),
        (
            "model.backbone.channels=[8,16,32,64]",
            r"expected the network and loss of this run, but \d+ tensors",
        ),
        (
            "loss=mse",
            r"expected the network and loss of this run.*heads\..*scale_maps.* in the file and None here",
        ),
    ],
)
def test_a_run_that_cannot_be_resumed(first, setting, message, tmp_path):
    with pytest.raises(ValueError, match=rf"ckpt=.*last\.ckpt: {message}"):
        train(smoke(tmp_path / "run", f"ckpt={first[0]}/last.ckpt", "trainer.max_epochs=2", setting))
    assert not (tmp_path / "run").exists()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS, "expected the file itself, got a Git LFS pointer; run `git lfs pull`"),
        (b"<!DOCTYPE html><html>Sign in", "expected the file itself, got a web page; download it again"),
        (b"", "expected the file itself, got an empty file"),
        (b"PK\x03\x04 cut", "not a readable"),
        (b"\x80\x02}q\x00(X", "not a readable|damaged"),
        (None, "no such"),
    ],
)
@pytest.mark.parametrize(
    "setting", ["ckpt=last.ckpt", "weights=last.ckpt", "weights=w32.pth", "weights=best.safetensors"]
)
def test_files_of_weights_that_are_none(setting, content, message, tmp_path):
    path = tmp_path / setting.partition("=")[2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{path.name}: ({message})") as caught:
        train(smoke(tmp_path / "run", f"{setting.partition('=')[0]}={path}"))
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_cut_anywhere(first, tmp_path):
    whole = (first[0] / "last.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    for size in np.linspace(1, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.ckpt: not a readable checkpoint"):
            read_resumable(path)


def test_weights_without_the_state_of_training(first, tmp_path):
    content = torch.load(first[0] / "last.ckpt", weights_only=True)
    torch.save({name: content[name] for name in ("swahr", "state_dict")}, tmp_path / "weights.ckpt")
    with pytest.raises(
        ValueError, match=r"weights\.ckpt: .*loops, lr_schedulers, optimizer_states are missing"
    ):
        read_resumable(tmp_path / "weights.ckpt")


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
