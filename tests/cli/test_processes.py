"""Runs on two devices: really two processes, each with its own images, one set of weights and of files."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from swahr.build import build_network_from, build_pipeline, network_facts, skeleton_facts, target_facts
from swahr.checkpoint import load_checkpoint
from swahr.cli import train as command
from swahr.cli.command import compose_config
from swahr.cli.processes import check_devices, other_processes
from swahr.training.build import build_training

TWO = (
    "experiment=smoke", "trainer.devices=2", "trainer.max_epochs=2", "data.module.train.size=8",
    "data.module.val.size=3", "data.module.val_batch_size=1", "grouping.peaks.threshold=-1",
    "trainer.log_every_n_steps=1", "trainer.gradient_clip_val=null",
)  # fmt: skip


class Recorder(Callback):
    """What the first process saw, and the gradients of its first step."""

    def __init__(self, interrupt_at=None):
        self.interrupt_at = interrupt_at
        self.images, self.gradients, self.threads = [], {}, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.images.append(batch.image_ids)
        self.threads = torch.get_num_threads()
        if trainer.global_step == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if not self.gradients:
            self.gradients = {n: p.grad.clone() for n, p in pl_module.network.named_parameters()}


def run_two(folder, *overrides, interrupt_at=None):
    """`train` on two devices, this process being the first; with what was recorded in it."""
    recorder, runs = Recorder(interrupt_at), []

    def build(config, folder):
        runs.append(build_training(config, folder))
        runs[0].trainer.callbacks.append(recorder)
        return runs[0]

    # A shell's background jobs ignore Ctrl-C, and tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("OMP_NUM_THREADS", raising=False)
            patch.setattr(command, "build_training", build)
            command.train(compose_config("train", [*TWO, f"output={folder}", *overrides]))
    finally:
        signal.signal(signal.SIGINT, before)
    return runs[0], recorder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    environment = dict(os.environ)
    folder = tmp_path_factory.mktemp("two") / "run"
    run, recorder = run_two(folder)
    assert dict(os.environ) == environment | {"PL_GLOBAL_SEED": "0", "PL_SEED_WORKERS": "1"}
    assert not torch.distributed.is_initialized()
    return folder, run, recorder


def own_run(tmp_path):
    """The same run in one process, not trained."""
    config = compose_config("train", [*TWO, "trainer.devices=1", f"output={tmp_path}/one"])
    seed_everything(0, workers=True, verbose=False)
    return config, build_training(config, tmp_path / "one")


def test_the_first_step_follows_the_mean_gradient_of_both_processes_images(whole, tmp_path):
    _, _, recorder = whole
    _, one = own_run(tmp_path)
    order = [key for batch in [*one.data.train_dataloader().batch_sampler][:2] for key in batch]
    shares = [
        one.data.train_dataloader().collate_fn([one.data.train_dataloader().dataset[key] for key in part])
        for part in (order[0::2], order[1::2])
    ]
    assert recorder.images[0] == shares[0].image_ids
    assert not set(shares[0].image_ids) & set(shares[1].image_ids)
    for batch in shares:
        one.module.network.train()  # each process normalises by its own images
        terms = one.module.criterion(one.module.network(batch.images), one.module.encode_targets(batch))
        (sum(values.mean() for values in terms.values()) / 2).backward()
    names, parameters = zip(*one.module.network.named_parameters(), strict=True)
    expected = torch.cat([parameter.grad.flatten() for parameter in parameters])
    found = torch.cat([recorder.gradients[name].flatten() for name in names])
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_learning_rate_and_threads_count_both_processes(whole):
    folder, run, recorder = whole
    rate = torch.load(folder / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"][0]
    assert rate["initial_lr"] == pytest.approx(2e-3 * 4 / 32)
    assert recorder.threads == max(1, len(os.sched_getaffinity(0)) // 2)
    assert run.trainer.world_size == 2


def test_every_validation_image_is_seen_once_and_with_the_weights_that_are_saved(whole, tmp_path):
    folder, run, _ = whole
    config, one = own_run(tmp_path)
    network = build_network_from(load_checkpoint(folder / "last.ckpt")).eval()
    network = network.to(memory_format=torch.channels_last)
    facts = skeleton_facts(one.data.skeleton) | target_facts(config.targets) | network_facts(network)
    pipeline = build_pipeline(config, facts)
    images = [one.data.val[index] for index in range(3)]
    assert run.module.validation_poses.keys() == {image.image_id for image in images}
    for image in images:
        found = run.module.validation_poses[image.image_id]
        expected = pipeline(network, [image.image], torch.device("cpu"))[0]
        assert len(expected) > 0
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_interrupted_and_resumed_run_equals_the_whole_one(whole, tmp_path, capfd):
    with pytest.raises(SystemExit):
        run_two(tmp_path / "stopped", interrupt_at=3)
    ckpt = tmp_path / "stopped" / "interrupted.ckpt"
    assert capfd.readouterr().out == ""
    _, recorder = run_two(tmp_path / "resumed", f"ckpt={ckpt}")
    assert recorder.images == whole[2].images[3:]
    assert len(capfd.readouterr().out.splitlines()) == 1
    states = [torch.load(f / "last.ckpt", weights_only=True) for f in (whole[0], tmp_path / "resumed")]
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(states[0][key][name], value) for name, value in states[1][key].items())


@pytest.mark.slow
def test_torchrun_leaves_one_folder(tmp_path):
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "swahr.cli.main")
    done = subprocess.run(
        [*launch, "train", "experiment=smoke", "trainer.devices=2"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [tmp_path / result["output"]] == [*(tmp_path / "runs" / "train").iterdir()]
    left = {path.name for path in (tmp_path / result["output"]).iterdir()}
    assert left == {
        ".hydra", "best.safetensors", "config.yaml", "last.ckpt", "metrics.csv", "pictures", "tensorboard",
        "train.log", "ap.png", "result.json",
    }  # fmt: skip


def two_devices(**settings):
    return Trainer(
        accelerator="cpu", devices=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        **settings,
    )  # fmt: skip


def test_a_process_that_fails_ends_the_run(tmp_path, monkeypatch):
    def lose_the_other():
        with other_processes(two_devices(), tmp_path / "config.yaml"):
            raise RuntimeError("connection closed by peer")

    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(ChildProcessError, match="the process for device 1"):
        lose_the_other()


def test_processes_that_do_not_fit_the_settings_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"strategy=ddp_spawn.*expected one of auto, ddp, ddp_find"):
        check_devices(two_devices(), "ddp_spawn")
    with pytest.raises(ValueError, match=r"num_nodes=2.*torchrun"):
        check_devices(two_devices(num_nodes=2), "ddp")
    one = Trainer(accelerator="cpu", devices=1, logger=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were started.*is 1"):
        check_devices(one, "auto")
