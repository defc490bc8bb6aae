"""Short trainings on rendered crowds, with AP before and after."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from benchmarks.poses import compare_poses
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig
from torch import Tensor

from gpu_suite.checks import Check, CheckFailedError, perform
from swahr.cli.command import compose_config
from swahr.inference import TorchNetwork
from swahr.runs import Throughput
from swahr.training.build import TrainingRun, build_training

_COMPARED_IMAGES = 16


def train_shortly(config: DictConfig, device: torch.device) -> Iterator[Check]:
    """Two checks for each of ``config.trainings``: progress, and agreement of poses on both devices."""
    torch.set_float32_matmul_precision("high")
    for name, training in config.trainings.items():
        folder = Path(config.output) / "training" / name
        runs: list[TrainingRun] = []
        yield perform(f"{name}: training", partial(_train, training, config, folder, device, runs))
        if runs:
            yield perform(f"{name}: poses on CPU and GPU", partial(_compare_devices, runs[0], device))


def _train(
    training: DictConfig, config: DictConfig, folder: Path, device: torch.device, runs: list[TrainingRun]
) -> Mapping[str, Any]:
    """Train for ``training.steps``; the run is appended to ``runs``."""
    seed_everything(config.seed, workers=True, verbose=False)
    run = build_training(_settings(training, config, folder, device), folder)
    history = _LossHistory()
    run.trainer.callbacks.append(history)
    run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    before = float(run.trainer.callback_metrics["val/AP"])
    run.trainer.fit(run.module, datamodule=run.data)
    runs.append(run)
    losses = torch.stack(history.losses).tolist()
    window = max(1, len(losses) // 10)
    throughput = next(callback for callback in run.trainer.callbacks if isinstance(callback, Throughput))
    measurements = {
        "steps": len(losses),
        "AP before": before,
        "AP after": float(run.trainer.callback_metrics["val/AP"]),
        "loss of the first tenth": fmean(losses[:window]),
        "loss of the last tenth": fmean(losses[-window:]),
        **throughput.measurements(),
    }
    _check_progress(measurements, training)
    return measurements


def _check_progress(measurements: Mapping[str, Any], training: DictConfig) -> None:
    first, last = measurements["loss of the first tenth"], measurements["loss of the last tenth"]
    if not last < training.loss_ratio * first:
        raise CheckFailedError(
            f"expected the loss to fall below {training.loss_ratio} times {first:.4g}, got {last:.4g}",
            measurements,
        )
    least = training.get("least_AP")
    if least is not None and measurements["AP after"] < least:
        raise CheckFailedError(
            f"expected AP of at least {least}, got {measurements['AP after']:.3f}", measurements
        )


def _settings(training: DictConfig, config: DictConfig, folder: Path, device: torch.device) -> DictConfig:
    """The configuration of `swahr train`, for one epoch of ``training.steps`` steps."""
    settings = compose_config("train", list(training.overrides))
    module = settings.data.module
    module.train.size = training.steps * module.batch_size
    module.workers = min(config.workers, os.cpu_count() or 1)
    settings.output, settings.seed = str(folder), config.seed
    settings.training.callbacks.ema = None  # there are no averaged weights before training
    settings.trainer.max_epochs = 1
    settings.trainer.check_val_every_n_epoch = 1
    settings.trainer.accelerator = "gpu" if device.type == "cuda" else "cpu"
    return settings


class _LossHistory(Callback):
    """Keeps the loss of every step, on its device."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002 - Lightning passes it
        pl_module: LightningModule,  # noqa: ARG002 - Lightning passes it
        outputs: Any,
        batch: Any,  # noqa: ARG002 - Lightning passes it
        batch_idx: int,  # noqa: ARG002 - Lightning passes it
    ) -> None:
        """Append the loss."""
        self.losses.append(outputs["loss"].detach())


def _compare_devices(run: TrainingRun, device: torch.device) -> Mapping[str, float]:
    """The trained network's poses on both devices, in float32 without TF32."""
    images = [run.data.val[i].image for i in range(min(_COMPARED_IMAGES, len(run.data.val)))]
    network = run.module.network.eval()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected, found = (
            run.module.pipeline(TorchNetwork(network, device=each), images, each)
            for each in (torch.device("cpu"), device)
        )
        return compare_poses(found, expected)
