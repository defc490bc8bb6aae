"""Callbacks that keep a run: the best weights, interruption, and throughput."""

import logging
import math
import signal
import time
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from swahr.checkpoint import network_weights, save_checkpoint
from swahr.training.averaging import EmaWeights

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=Callback)


def find_callback(trainer: Trainer, kind: type[T]) -> T | None:
    """The first callback of a class; None if the Trainer has none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by a connector
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def validation_metrics(trainer: Trainer) -> dict[str, float]:
    """The metrics of the last validation, e.g. ``AP``."""
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name.removeprefix("val/"): value for name, value in logged.items() if name.startswith("val/")}


class ExportBest(Callback):
    """Saves the weights with the best validation AP in ``best.safetensors``.

    Args:
        folder: the run's folder.
        description: see `swahr.checkpoint.describe_run`.

    Attributes:
        best: the best AP; minus infinity before the first.
        metrics: all metrics of that validation.
    """

    def __init__(self, *, folder: Path, description: str) -> None:
        self.path = folder / "best.safetensors"
        self.description = description
        self.best = -math.inf
        self.metrics: dict[str, float] = {}
        self._said = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the best AP of a resumed run if its weights were not beside the checkpoint."""
        if trainer.is_global_zero and self.best >= 0 and not self.path.exists():
            _log.warning("%s (AP %.4f) was not beside the checkpoint: it restarts here", self.path, self.best)
            self.best, self.metrics = -math.inf, {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or "val/AP" not in trainer.callback_metrics:
            return
        ap = float(trainer.callback_metrics["val/AP"])
        if ap >= 0 and ap > self.best:
            ema = find_callback(trainer, EmaWeights)  # whose weights validation measures
            weights = network_weights(pl_module.state_dict()) if ema is None else ema.averaged_weights()
            save_checkpoint(self.path, weights, self.description)
            self.best, self.metrics = ap, validation_metrics(trainer)
        elif not ap >= 0 and not self._said:  # COCO's tools have -1
            _log.warning("AP is %g: no annotated person counts, so no weights are saved as the best", ap)
            self._said = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.metrics = state_dict.get("metrics", {"AP": self.best})  # older checkpoints only have the AP


class Throughput(Callback):
    """Measures images per second in training, and the GPU's peak memory.

    Args:
        warmup: number of first steps that are not timed, because they compile, tune and fill caches.
    """

    def __init__(self, *, warmup: int = 10) -> None:
        self.warmup = warmup
        self._steps = 0
        self._images = 0
        self._seconds = 0.0
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch without waiting for a GPU."""
        now = time.perf_counter()
        self._steps += 1
        if self._steps > self.warmup:
            self._images += len(batch) * trainer.world_size
            self._seconds += now - self._started
        self._started = now

    def measurements(self) -> dict[str, float]:
        """``images_per_second`` and, on a GPU, ``peak_memory_gib``; empty if only the warm-up ran."""
        if not self._seconds:
            return {}
        measured = {"images_per_second": self._images / self._seconds}
        if torch.cuda.is_available():
            measured["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return measured


class SaveOnInterrupt(Callback):
    """Saves ``interrupted.ckpt`` when Ctrl-C stops a run, and logs how to resume.

    Args:
        folder: the run's folder.
    """

    def __init__(self, *, folder: Path) -> None:
        self.path = folder / "interrupted.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle signals only in the first of several processes, which needs the others until it has saved.

        SIGTERM acts like Ctrl-C. Lightning's own handler calls a collective operation, which hangs if another
        process is inside a different one.
        """
        if trainer.world_size > 1 and trainer.is_global_zero:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        elif trainer.world_size > 1:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save on Ctrl-C, and if validation fails, which comes before the epoch is saved in ``last.ckpt``.

        After other exceptions, ``last.ckpt`` has the last known good weights.
        """
        if trainer.is_global_zero and (isinstance(exception, KeyboardInterrupt) or trainer.validating):
            try:
                # Trainer.save_checkpoint would wait for processes that wait for this one's gradients.
                checkpoint = trainer._checkpoint_connector.dump_checkpoint()
                trainer.strategy.save_checkpoint(checkpoint, self.path)
            except OSError as error:  # it must not hide why the run ended
                _log.error("%s", error)
            else:
                _log.info("interrupted; resume with the same options, another output= and ckpt=%s", self.path)
