"""Files of a run on a disk that may be full: logs are left out, checkpoints stay whole."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from swahr.files import unwritable_reported, whole_file

_log = logging.getLogger(__name__)


@contextmanager
def only_logged(consequence: str) -> Iterator[None]:
    """Log errors of logs and drawings, which must not end a run, nor hide why it ended."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: %s", consequence, error)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the previous one, which it replaces when it is complete.

    Lightning writes to the system's temporary folder first. If that is on another disk, the final copy
    destroys the previous checkpoint when the run's disk is full.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        with unwritable_reported(path), whole_file(path) as partial:
            torch.save(checkpoint, partial)


class MetricsFile(CSVLogger):
    """Writes ``metrics.csv``."""

    def save(self) -> None:
        with only_logged("metrics.csv is not up to date"):
            super().save()


class TensorBoardFiles(TensorBoardLogger):
    """Writes ``tensorboard/``."""

    def log_metrics(self, *metrics_and_step: Any, **named: Any) -> None:
        with only_logged("no metrics for TensorBoard"):
            super().log_metrics(*metrics_and_step, **named)

    def save(self) -> None:
        with only_logged("no metrics for TensorBoard"):
            super().save()

    def finalize(self, status: str) -> None:
        with only_logged("no metrics for TensorBoard"):
            super().finalize(status)
