"""What happens around training: averaged weights, the best checkpoint, stamps, interrupts, pictures."""

from __future__ import annotations

import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from swahr.checkpoint import network_weights, save_checkpoint
from swahr.data import Source
from swahr.draw import contact_sheet, count_drawn, draw_curves, draw_poses, write_image
from swahr.training.module import PoseModule

_log = logging.getLogger(__name__)


class EmaWeights(WeightAveraging):
    """Exponential moving average of weights and BN statistics, used in validation and in checkpoints.

    The decay grows as (1 + n) / (10 + n) towards its final value, so that short runs are not dominated by
    their first steps.

    Args:
        decay: final decay an optimiser step.
    """

    def __init__(self, *, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            if not averaged[0].is_floating_point():  # BN's batch counters
                torch._foreach_copy_(averaged, current)
                return
            n = float(count)
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(multi_avg_fn=average)
        self._swapped = False

    def averaged_weights(self) -> dict[str, Tensor]:
        """The network's averaged state dict (call it outside validation)."""
        if self._average_model is None:
            raise RuntimeError("averaged weights exist only while a fit is running")
        return network_weights(self._average_model.module.state_dict())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Undo validation's swap, so that a checkpoint saved now holds each set of weights in its place."""
        if self._swapped:
            self._swap_models(pl_module)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped


class ProgressBar(RichProgressBar):
    """Lightning's Rich bar, on stderr, without the version number that its loggers have none of."""

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Loss and AP."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class StampCheckpoints(Callback):
    """Writes the run's description (config, skeleton, stamp) into Lightning's checkpoints.

    Args:
        description: see `swahr.checkpoint.describe_run`.
    """

    def __init__(self, *, description: str) -> None:
        self.description = description

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the description under the key ``swahr``."""
        checkpoint["swahr"] = self.description


class ExportBest(Callback):
    """Keeps the weights with the best validation AP in ``best.safetensors``.

    Args:
        folder: the run's folder.
        description: see `swahr.checkpoint.describe_run`.
        averaged: the averaging callback whose weights count, if there is one.
    """

    def __init__(self, *, folder: Path, description: str, averaged: EmaWeights | None) -> None:
        self.path = folder / "best.safetensors"
        self.description = description
        self.averaged = averaged
        self.best = -math.inf

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the AP just measured is the best so far."""
        ap = float(trainer.callback_metrics.get("val/AP", -math.inf))
        if trainer.sanity_checking or not trainer.is_global_zero or not ap > self.best:
            return
        if self.averaged is not None:
            weights = self.averaged.averaged_weights()
        else:
            weights = network_weights(pl_module.state_dict())
        save_checkpoint(self.path, weights, self.description)
        self.best = ap

    def state_dict(self) -> dict[str, Any]:
        """The best AP, so that a resumed run does not overwrite a better one with a worse."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best AP."""
        self.best = state_dict["best"]


class Throughput(Callback):
    """Measures images per second of training and the peak memory of the GPU, without its first steps.

    Args:
        warmup: steps left out: they compile, tune and fill caches.
    """

    def __init__(self, *, warmup: int = 10) -> None:
        self.warmup = warmup
        self._steps = 0
        self._images = 0
        self._seconds = 0.0
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave validation out of the time."""
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, without waiting for a GPU."""
        now = time.perf_counter()
        self._steps += 1
        if self._steps > self.warmup:
            self._images += len(batch) * trainer.world_size
            self._seconds += now - self._started
        self._started = now

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the work that a GPU still has in its queue."""
        if self._seconds and torch.cuda.is_available():
            waiting = time.perf_counter()
            torch.cuda.synchronize()
            self._seconds += time.perf_counter() - waiting

    def figures(self) -> dict[str, float]:
        """``images_per_second`` and, on a GPU, ``peak_memory_gib``; empty for runs within the warm-up."""
        if not self._seconds:
            return {}
        peak = (
            {"peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30}
            if torch.cuda.is_available()
            else {}
        )
        return {"images_per_second": self._images / self._seconds, **peak}


class SaveOnInterrupt(Callback):
    """Saves ``interrupted.ckpt`` when a run is stopped by Ctrl-C, and says how to go on.

    Args:
        folder: the run's folder.
    """

    def __init__(self, *, folder: Path) -> None:
        self.path = folder / "interrupted.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the first of several processes alone be interrupted: it needs the others until it has saved.

        Being terminated (by a cluster, say) becomes the same as Ctrl-C: Lightning would tell the others by a
        collective operation of its own, which hangs where they are in the middle of another one.
        """
        if trainer.world_size > 1 and trainer.is_global_zero:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        elif trainer.world_size > 1:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save; other exceptions leave ``last.ckpt``, whose weights are known to be sound."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            # Trainer.save_checkpoint would wait for the other processes, which wait for this one's gradients.
            checkpoint = trainer._checkpoint_connector.dump_checkpoint()
            trainer.strategy.save_checkpoint(checkpoint, self.path)
            _log.info("interrupted; resume with the same options, another output= and ckpt=%s", self.path)


class PredictionPictures(Callback):
    """Draws what the network finds in the first validation images, as a page and to TensorBoard.

    Args:
        source: the validation images.
        folder: where the pages go.
        every: validations between two pages.
        count: images a page.
    """

    def __init__(self, *, source: Source, folder: Path, every: int, count: int) -> None:
        self.source = source
        self.folder = folder
        self.every = every
        self.count = min(count, len(source))
        self._validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw a page if it is due."""
        if trainer.sanity_checking or not trainer.is_global_zero or self.count == 0:
            return
        self._validations += 1
        if (self._validations - 1) % self.every:
            return
        page = self._page(pl_module)
        write_image(self.folder / f"epoch_{trainer.current_epoch:04d}.png", page)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/poses", page, trainer.global_step, dataformats="HWC")

    def _page(self, module: LightningModule) -> np.ndarray[Any, np.dtype[np.uint8]]:
        assert isinstance(module, PoseModule)
        images, captions = [], []
        for index in range(self.count):
            labelled = self.source[index]
            if labelled.image_id in module.validation_poses:
                poses = module.validation_poses[labelled.image_id]
                images.append(draw_poses(labelled.image, poses))
                people = (
                    f"{count_drawn(poses)} drawn of {len(poses)} found, {len(labelled.annotations)} annotated"
                )
                captions.append(f"{self.source.describe(index)}: {people}")
        page: np.ndarray[Any, np.dtype[np.uint8]] = contact_sheet(images, captions)
        return page


class PlotCurves(Callback):
    """Draws loss and AP curves from the CSV log when training ends, however it ends.

    Args:
        folder: the run's folder, which holds ``metrics.csv``.
        footer: one line that says what the figures come from.
    """

    def __init__(self, *, folder: Path, footer: str) -> None:
        self.folder = folder
        self.footer = footer

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        self._draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw what there is; whatever goes wrong here must not hide why the run ended."""
        try:
            self._draw(trainer)
        except (OSError, ValueError) as error:
            _log.warning("no curves drawn: %s", error)

    def _draw(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        metrics = self.folder / "metrics.csv"
        if trainer.is_global_zero and metrics.exists():
            draw_curves(metrics, self.folder, footer=self.footer)
