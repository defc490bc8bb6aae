"""Every experiment composes, builds and can take a training step."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from swahr.build import build_network, build_pipeline, create
from swahr.cli.command import compose_config
from swahr.data import RandomAffine, SyntheticSource, collate
from swahr.skeleton import COCO

EXPERIMENTS = sorted(
    path.stem for path in (Path(__file__).resolve().parents[2] / "conf/experiment").glob("*.yaml")
)


def batch_of_rendered_crowds():
    source = SyntheticSource(size=2, seed=0, image_size=(64, 64))
    augment = RandomAffine(
        input_size=64, rotation=0.0, scaling=(1.0, 1.0), scaling_reference="long", translation=0.0, flip=0.0
    )
    rng = np.random.default_rng(0)
    return collate([augment(source[i], skeleton=COCO, rng=rng) for i in range(2)])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_builds_and_takes_a_training_step(name, tmp_path):
    config = compose_config("train", [f"experiment={name}"])
    if "root" in config.data:
        config.data.root = str(tmp_path)
    criterion = create(config.loss)
    network = build_network(config.model, COCO, criterion)
    build_pipeline(config, COCO)
    create(config.data.module.augmentation)
    optimiser, schedule = create(config.training.optimiser)(
        network, batch_size=config.data.module.batch_size, steps_per_epoch=10
    )
    batch = batch_of_rendered_crowds()
    terms = criterion(network(batch.images), create(config.target, strides=network.strides)(batch))
    loss = torch.stack([values.mean() for values in terms.values()]).sum()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss.backward()
    optimiser.step()
    schedule.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def test_each_run_of_a_sweep_has_its_own_folder_inside_the_sweeps(tmp_path):
    command = [
        sys.executable, "-m", "swahr.cli.main", "train", "-m", "experiment=smoke", "loss=mse,swahr",
        "seed=0,1", "data.module.train.size=2", "trainer.limit_val_batches=1", "output=sweep",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 4 + done.stdout.count("[HYDRA]")
    folders = sorted(path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == [
        "0_loss-mse_seed-0", "1_loss-mse_seed-1", "2_loss-swahr_seed-0", "3_loss-swahr_seed-1",
    ]  # fmt: skip
    weights = []
    for folder, (weight, seed) in zip(
        folders, [("none", 0), ("none", 1), ("derived", 0), ("derived", 1)], strict=True
    ):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert (config["loss"]["weight"], config["seed"]) == (weight, seed)
        assert config["output"] == str(folder)
        with safe_open(folder / "best.safetensors", framework="pt") as file:
            weights.append(file.get_tensor(next(iter(file.keys()))))
    assert len({tuple(tensor.flatten().tolist()) for tensor in weights}) == 4
