import json

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


def test_validation_looks_at_people_of_the_size_that_training_shows():
    config = compose_config("train", [])
    assert config.aggregate.input_size == config.data.module.augmentation.input_size
