"""``swahr train``."""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from pathlib import Path
from typing import TypeVar

import torch
from lightning.pytorch import Callback, seed_everything
from omegaconf import DictConfig, OmegaConf

from swahr.build import TrainingRun, build_training
from swahr.cli.command import fresh_folder, report, run_command
from swahr.cli.processes import check_devices, other_processes
from swahr.training import ExportBest, Throughput

_NOISE = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*dirpath has changed.*",  # a resumed run has a folder of its own
    ".*LeafSpec.*is deprecated.*",
)

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=Callback)


def train(config: DictConfig) -> float:
    """Train; the result is the best AP, so that sweepers can maximise it.

    Leaves in ``config.output``: ``best.safetensors``, ``last.ckpt``, ``metrics.csv``, ``tensorboard/``,
    curves, pictures and ``config.yaml``.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    _quieten_lightning()
    folder = Path(config.output)
    run = build_training(config, folder)
    check_devices(run.trainer, config.trainer.strategy)
    if not run.trainer.is_global_zero:
        _fit(run, config.ckpt)  # with the others; it writes and reports nothing
        return -math.inf
    _prepare_folder(config, folder)
    parameters = sum(parameter.numel() for parameter in run.module.network.parameters())
    _log.info(
        "%d training and %d validation images, %.2f M parameters, %d processes; files go to %s",
        len(run.data.train),
        len(run.data.val),
        parameters / 1e6,
        run.trainer.world_size,
        folder,
    )
    with other_processes(run.trainer, folder / "config.yaml"):
        _fit(run, config.ckpt)
    best = _callback(run, ExportBest)
    last = {name: float(value) for name, value in run.trainer.callback_metrics.items() if "val/" in name}
    report(
        {
            "output": str(folder),
            "best": str(best.path) if best.path.exists() else None,
            "best_AP": best.best if math.isfinite(best.best) else None,
            "last_validation": last,
            **_callback(run, Throughput).figures(),
        }
    )
    return best.best


def _fit(run: TrainingRun, ckpt: str | None) -> None:
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt, weights_only=True)


def _prepare_folder(config: DictConfig, folder: Path) -> None:
    fresh_folder(config.output)
    if config.ckpt is not None:
        _keep_best_so_far(Path(config.ckpt), folder)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)


def _keep_best_so_far(ckpt: Path, folder: Path) -> None:
    """A resumed run remembers the best AP so far; the weights that reached it come along."""
    best = ckpt.with_name("best.safetensors")
    if best.is_file():
        shutil.copy(best, folder / best.name)


def _callback(run: TrainingRun, kind: type[T]) -> T:
    callbacks: list[Callback] = run.trainer.callbacks  # type: ignore[attr-defined] # set by a connector
    return next(callback for callback in callbacks if isinstance(callback, kind))


def _quieten_lightning() -> None:
    """Silence what Lightning says of every run and nobody can act upon."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)


def main() -> None:
    """Run the command line."""
    run_command("train", train)
