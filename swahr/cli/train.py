"""``swahr train``."""

from __future__ import annotations

import logging
import warnings

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from swahr.build import build_training
from swahr.cli.command import fresh_folder, report, run_command

_NOISE = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*LeafSpec.*is deprecated.*",
)

_log = logging.getLogger(__name__)


def train(config: DictConfig) -> float:
    """Train; the result is the best AP, so that sweepers can maximise it.

    Leaves in ``config.output``: ``best.safetensors``, ``last.ckpt``, ``metrics.csv``, ``tensorboard/``,
    curves, pictures and ``config.yaml``.
    """
    folder = fresh_folder(config.output)
    seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    _quieten_lightning()
    run = build_training(config, folder)
    parameters = sum(parameter.numel() for parameter in run.module.network.parameters())
    _log.info(
        "%d training and %d validation images, %.2f M parameters; files go to %s",
        len(run.data.train),
        len(run.data.val),
        parameters / 1e6,
        folder,
    )
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=config.ckpt, weights_only=True)
    best = folder / "best.safetensors"
    ap = {
        name: float(value) for name, value in run.trainer.callback_metrics.items() if name.startswith("val/")
    }
    report({"output": str(folder), "best": str(best) if best.exists() else None, "last_validation": ap})
    return ap.get("val/AP", float("nan"))


def _quieten_lightning() -> None:
    """Silence what Lightning says of every run and nobody can act upon."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)


def main() -> None:
    """Run the command line."""
    run_command("train", train)
