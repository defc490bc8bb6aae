"""``swahr train``."""

import logging
import math
import os
import shutil
import sys
import threading
import warnings
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from swahr.checkpoint import load_weights
from swahr.cli.command import fresh_folder, or_fail, report
from swahr.cli.processes import check_devices, other_processes
from swahr.cli.resuming import check_resumes, read_resumable
from swahr.execution import keep_freed_memory
from swahr.files import write_json
from swahr.provenance import log_findings
from swahr.runs import ExportBest, Throughput
from swahr.runs.callbacks import find_callback, validation_metrics
from swahr.training.build import TrainingRun, build_training

_NOISE = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*dirpath has changed.*",  # a resumed run has its own folder
    ".*LeafSpec.*is deprecated.*",
)

_log = logging.getLogger(__name__)


def train(config: DictConfig) -> float:
    """Train a network; returns the best AP, which sweepers maximise.

    Writes ``best.safetensors``, ``last.ckpt``, ``metrics.csv``, ``tensorboard/``, curves, pictures,
    ``config.yaml`` and, when it is done, ``result.json`` to ``config.output``.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    _quieten_lightning()
    folder = Path(config.output)
    state = None if config.ckpt is None else read_resumable(config.ckpt)
    run = build_training(config, folder)
    if state is not None:
        check_resumes(config.ckpt, state, run.module, run.trainer)
        del state
    check_devices(run.trainer, config.trainer.strategy)
    if not run.trainer.is_global_zero:
        _fit(run, config.ckpt)  # only the first process writes and reports
        return -math.inf
    fresh_folder(config.output)
    if config.ckpt is not None:
        _keep_best(Path(config.ckpt).with_name("best.safetensors"), folder)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    parameters = sum(parameter.numel() for parameter in run.module.parameters()) / 1e6
    _log.info("%d training and %d validation images", len(run.data.train), len(run.data.val))
    log_findings(run.data.train, run.data.val)
    _log.info("%.2f M parameters, %d processes, output=%s", parameters, run.trainer.world_size, folder)
    with other_processes(run.trainer, folder / "config.yaml"):
        _fit(run, config.ckpt)
    best, throughput = find_callback(run.trainer, ExportBest), find_callback(run.trainer, Throughput)
    last, speed = validation_metrics(run.trainer), throughput.measurements() if throughput is not None else {}
    found = best is not None and math.isfinite(best.best)
    result = {
        "metrics": best.metrics if best is not None and found else last,
        "last_validation": last,
        "images": len(getattr(run.module, "validation_poses", ()) or run.data.val),
        **speed,
    }
    write_json(folder / "result.json", {**result, "stamp": run.stamp})
    report(
        {
            "output": str(folder),
            "best": str(best.path) if best is not None and best.path.exists() else None,
            "best_AP": best.best if best is not None and found else None,
            "last_validation": {f"val/{name}": value for name, value in last.items()},
            **speed,
        }
    )
    return best.best if best is not None else last.get("AP", -math.inf)


def _keep_best(best: Path, folder: Path) -> None:
    """Copy the best weights so far, which belong to the best AP that a checkpoint beside them stores."""
    if not best.is_file():
        return  # see ExportBest
    try:
        load_weights(best)
    except ValueError as error:
        _log.warning("the best weights so far are left behind: %s", error)
    else:
        shutil.copy(best, folder)


def _fit(run: TrainingRun, ckpt: str | None) -> None:
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt, weights_only=True)


def _quieten_lightning() -> None:
    """Silence messages that every run causes and no user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)  # see above


def join_run(config_file: str) -> None:
    """Join a run on several devices as a further process; exit with the process that started this one."""

    def exit_with_parent() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    keep_freed_memory()
    config = OmegaConf.load(config_file)
    assert isinstance(config, DictConfig)
    or_fail("train", lambda: train(config))


if __name__ == "__main__":
    join_run(sys.argv[1])
