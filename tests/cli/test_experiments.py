"""Every experiment composes, builds, takes a training step and validates."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from safetensors import safe_open

from swahr.build import target_facts
from swahr.cli.command import compose_config
from swahr.nodes import instantiate
from swahr.training.build import build_training

EXPERIMENTS = sorted(
    path.stem for path in (Path(__file__).resolve().parents[2] / "conf/experiment").glob("*.yaml")
)
OFFICIAL = [
    name for name in EXPERIMENTS if name.startswith(("swahr_", "higherhrnet_")) and "corr" not in name
]
ONE_STEP = (
    "weights=null", "data.module.augmentation.input_size=64", "data.module.batch_size=2",
    "data.module.workers=0", "aggregate.input_size=64", "trainer.accelerator=cpu", "trainer.max_steps=1",
    "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
)  # fmt: skip
OWN_NETWORK = ("swahr_coco_w32_512", "swahr_crowdpose_w48_640_corrected")


def on_rendered_crowds(name, *overrides):
    """An experiment's configuration, with two small rendered images for its data."""
    config = compose_config("train", [f"experiment={name}", *ONE_STEP, *overrides])
    OmegaConf.set_struct(config, False)
    source = compose_config("train").data.module.train
    config.data.module.train = {**source, "size": 2, "image_size": [64, 64]}
    config.data.module.val = {**source, "size": 1, "image_size": [64, 64]}
    return config


def assert_takes_a_step_and_validates(run):
    before = [parameter.detach().clone() for parameter in run.module.network.parameters()]
    run.trainer.fit(run.module, datamodule=run.data)
    assert run.trainer.global_step == 1
    assert "val/AP" in run.trainer.callback_metrics
    assert torch.isfinite(run.trainer.callback_metrics["train/loss"])
    after = run.module.network.parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_builds_takes_a_training_step_and_validates(name, tmp_path):
    own = name.partition("_")[0]
    model = f"{own}_tiny" if own in ("sstn", "conditioned") else "tiny"
    config = on_rendered_crowds(name, f"model={model}")  # the larger ones are built from the same classes
    for setting in ("accumulate_grad_batches", "sync_batchnorm"):
        assert config.trainer[setting] == compose_config("train", [f"experiment={name}"]).trainer[setting]
    assert_takes_a_step_and_validates(build_training(config, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_NETWORK)
def test_an_experiment_takes_a_training_step_with_its_own_network(name, tmp_path):
    config = on_rendered_crowds(name)
    assert config.model.backbone.channels[0] == (48 if "_w48_" in name else 32)
    run = build_training(config, tmp_path)
    assert sum(p.numel() for p in run.module.network.parameters()) > (6e7 if "_w48_" in name else 2.8e7)
    run.trainer.callbacks = []  # checkpoints of large networks, pictures, curves
    assert_takes_a_step_and_validates(run)


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_experiment_is_tested_and_trained_as_published(name):
    config = compose_config("train", [f"experiment={name}"])
    w48 = "_w48_" in name
    size = int(name.rpartition("_")[2])
    assert config.data.module.augmentation.input_size == config.aggregate.input_size == size
    assert config.data.skeleton == config.evaluation.protocol == name.split("_")[1]
    assert target_facts(config.targets)["alignment"] == "official"
    assert "alignment" not in config.aggregate  # so that it has that of the targets
    assert (config.targets.centre, config.aggregate.project, config.aggregate.flip) == (
        "truncated",
        True,
        True,
    )
    assert config.grouping.rule._target_ == "swahr.grouping.OfficialGrouping"
    assert config.decode.refine._target_ == "swahr.decode.QuarterOffset"
    assert config.grouping.peaks.threshold == (0.12 if name == "swahr_coco_w32_512" else 0.1)
    assert config.model.backbone.channels[0] == (48 if w48 else 32)
    batch = config.data.module.batch_size * config.trainer.accumulate_grad_batches
    schedule = instantiate(config.training.optimiser)
    optimiser, _ = schedule(torch.nn.Linear(1, 1), batch_size=batch, steps_per_epoch=1)
    peak = optimiser.param_groups[0]["lr"] / schedule.factor(0)
    if name.startswith("swahr"):
        assert (batch, peak) == (80 if w48 else 160, pytest.approx(9.6e-4 if w48 else 2e-3))
        expected = {0: 0.1, 1.5: 0.55, 3: 1, 300: 0}
    else:
        assert (batch, peak) == (40 if w48 else 48, pytest.approx(1e-3))
        expected = {0: 1, 199: 1, 200: 0.1, 260: 0.01}
    assert {epoch: schedule.factor(epoch) for epoch in expected} == pytest.approx(expected)
    taylor = {"_target_": "swahr.loss.TaylorTarget"}
    assert config.loss.terms.heatmap.adaptation == (taylor if name.startswith("swahr") else None)
    assert config.weights.startswith("hrnet_w48" if w48 else "hrnet_w32")
    assert 0.6 < config.expected.AP < 0.75
    assert config.expected.images == (5000 if "coco" in name else 8000)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.endswith("_corrected")])
def test_a_corrected_experiment_differs_by_its_corrections_only(name):
    official, corrected = (
        OmegaConf.to_container(compose_config("train", [f"experiment={one}"]), resolve=False)
        for one in (name.removesuffix("_corrected"), name)
    )
    assert {key for key in official if official[key] != corrected[key]} == {
        "targets", "aggregate", "grouping", "decode", "loss", "expected",
    }  # fmt: skip
    assert corrected["expected"] is None
    assert corrected["targets"] == official["targets"] | {"centre": "unbiased", "alignment": "centre"}
    assert corrected["aggregate"] == official["aggregate"] | {"project": False}
    assert official["loss"]["terms"]["heatmap"]["adaptation"] == {"_target_": "swahr.loss.TaylorTarget"}
    official["loss"]["terms"]["heatmap"]["adaptation"] = {"_target_": "swahr.loss.ExactTarget"}
    assert official["loss"]["terms"]["tags"]["closeness"] == "gaussian"
    official["loss"]["terms"]["tags"]["closeness"] = "laplacian"
    assert corrected["loss"] == official["loss"]
    dark = {
        "_target_": "swahr.decode.Dark", "kernel_size": 11, "rescale": "maximum", "max_offset": 1.0,
    }  # fmt: skip
    confident = {"threshold": "${grouping.peaks.threshold}"}  # nothing is made up
    recover = {"_target_": "swahr.decode.KeypointRecovery", "threshold": 0.0}
    decoder = {"_target_": "swahr.decode.Decoder", "recover": recover}
    assert official["decode"] == decoder | {"refine": {"_target_": "swahr.decode.QuarterOffset"}}
    assert corrected["decode"] == decoder | {"refine": dark, "recover": recover | confident}
    peaks = official["grouping"]["peaks"]
    shared = {key: official["grouping"]["rule"][key] for key in ("tag_threshold", "use_score")}
    assert corrected["grouping"] == {
        "peaks": peaks | {"plateaus": "one"},
        "rule": {"_target_": "swahr.grouping.GatedGrouping", **shared},
    }


def test_a_correction_is_taken_back_by_one_option():
    corrected = "experiment=swahr_coco_w32_512_corrected"
    config = compose_config("train", [corrected, "decode=quarter", "loss=sahr"])
    assert config.decode.refine._target_ == "swahr.decode.QuarterOffset"
    assert config.decode.recover.threshold == 0.0
    heatmap = config.loss.terms.heatmap
    assert (heatmap.adaptation._target_, heatmap.pixel_weight) == ("swahr.loss.TaylorTarget", None)
    assert config.grouping.rule._target_ == "swahr.grouping.GatedGrouping"


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
    derived = {"_target_": "swahr.loss.DerivedWeight", "gamma": 0.01}
    for folder, (weight, seed) in zip(
        folders, [(None, 0), (None, 1), (derived, 0), (derived, 1)], strict=True
    ):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert (config["loss"]["terms"]["heatmap"]["pixel_weight"], config["seed"]) == (weight, seed)
        assert config["output"] == str(folder)
        with safe_open(folder / "best.safetensors", framework="pt") as file:
            weights.append(file.get_tensor(next(iter(file.keys()))))
    assert len({tuple(tensor.flatten().tolist()) for tensor in weights}) == 4
