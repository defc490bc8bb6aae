"""Trains on photographs for as long as a budget allows; keeps the weights in half precision."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig
from pack_weights import pack

from gpu_suite.checks import Check, perform
from swahr.cli.command import compose_config
from swahr.runs import Throughput
from swahr.training.build import TrainingRun, build_training


def train_on_photographs(config: DictConfig, device: torch.device) -> Iterator[Check]:
    """A check of the speed of training, and one of a training whose epochs fill the budget."""
    start = time.monotonic()
    torch.set_float32_matmul_precision("high")
    trials: list[TrainingRun] = []
    yield perform("photographs: speed", partial(_try_speed, config, device, trials))
    if trials:
        left = config.photographs.share * config.budgets.photographs - (time.monotonic() - start)
        images = left * _speed(trials[0])["images_per_second"]
        epochs = max(1, math.floor(images / len(trials[0].data.train)))
        yield perform("photographs: training", partial(_train, config, device, epochs))


def _try_speed(config: DictConfig, device: torch.device, trials: list[TrainingRun]) -> Mapping[str, Any]:
    """Train for a few steps without validation; the run is appended to ``trials``."""
    steps = {"max_steps": config.photographs.trial_steps, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    run = _fit(config, device, "trial", steps)
    measured = _speed(run)
    trials.append(run)
    return measured


def _train(config: DictConfig, device: torch.device, epochs: int) -> Mapping[str, Any]:
    """Train, with one validation at the end."""
    run = _fit(config, device, "training", {"max_epochs": epochs, "check_val_every_n_epoch": epochs})
    metrics = run.trainer.callback_metrics
    packed = pack(
        _folder(config, "training") / "best.safetensors", Path(config.output) / "photographs.safetensors"
    )
    return {
        "epochs": epochs,
        "images per epoch": len(run.data.train),
        **{
            name.removeprefix("val/"): float(value)
            for name, value in metrics.items()
            if name.startswith("val/")
        },
        **_speed(run),
        "bytes": packed["bytes"],
    }


def _fit(config: DictConfig, device: torch.device, name: str, trainer: Mapping[str, Any]) -> TrainingRun:
    seed_everything(config.seed, workers=True, verbose=False)
    settings = compose_config("train", list(config.photographs.overrides))
    if config.photographs.root is not None:
        settings.data.root = config.photographs.root
    settings.data.module.workers = min(config.workers, os.cpu_count() or 1)
    settings.output, settings.seed = str(_folder(config, name)), config.seed
    settings.trainer.accelerator = "gpu" if device.type == "cuda" else "cpu"
    settings.trainer.update(trainer)
    run = build_training(settings, _folder(config, name))
    run.trainer.fit(run.module, datamodule=run.data)
    return run


def _speed(run: TrainingRun) -> dict[str, float]:
    return next(each for each in run.trainer.callbacks if isinstance(each, Throughput)).measurements()


def _folder(config: DictConfig, name: str) -> Path:
    return Path(config.output) / "photographs" / name
