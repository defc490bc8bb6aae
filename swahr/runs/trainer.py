"""The Trainer of a run, whose logs and checkpoints survive a full disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint, LambdaCallback, ProgressBar
from omegaconf import DictConfig

from swahr.data import Source
from swahr.nodes import instantiate
from swahr.runs.files import MetricsFile, TensorBoardFiles, WholeCheckpoints


def build_trainer(
    config: DictConfig, folder: Path, *, source: Source, description: str, stamp: Mapping[str, Any]
) -> Trainer:
    """The Trainer of a run, with its callbacks and loggers.

    Args:
        config: the run's configuration, with the nodes ``trainer`` and ``training.callbacks``.
        folder: the run's folder.
        source: the validation images.
        description: see `swahr.runs.description.describe`; all checkpoints hold it.
        stamp: see `swahr.provenance.provenance`.

    Raises:
        ValueError: the settings would train nothing, or name devices that this machine does not have.
    """
    footer = f"swahr {stamp['swahr']} {stamp['commit'] or ''} seed {stamp['seed']} {stamp['device']}"
    callbacks = [
        instantiate(
            node, folder=folder, dirpath=folder, source=source, description=description, footer=footer
        )
        for node in config.training.callbacks.values()
        if node is not None
    ]
    # Lightning adds its own bar, which writes to stdout, and its own checkpoints where there are none.
    switches = {"enable_progress_bar": ProgressBar, "enable_checkpointing": Checkpoint}
    describing = LambdaCallback(on_save_checkpoint=lambda *saved: saved[2].update(swahr=description))
    return _checked_trainer(
        config.trainer,
        callbacks=[*callbacks, describing],
        **{name: any(isinstance(one, kind) for one in callbacks) for name, kind in switches.items()},
        logger=[
            MetricsFile(folder, name="", version=""),
            TensorBoardFiles(folder, name="tensorboard", version=""),
        ],
        default_root_dir=folder,
        plugins=[WholeCheckpoints()],
    )


def _checked_trainer(node: DictConfig, **parts: Any) -> Trainer:
    """A Trainer that will train and validate."""
    least_one = ("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches")
    for name in (*least_one, "check_val_every_n_epoch"):
        if node.get(name) == 0:
            raise ValueError(f"trainer.{name}: expected more than 0, got 0, which trains nothing; raise it")
    if not isinstance(node.max_epochs, int):
        raise ValueError(  # noqa: TRY004 - the setting is wrong, not a caller's type
            f"trainer.max_epochs: expected a number of epochs, or -1 for no limit, got {node.max_epochs!r}"
        )
    try:
        trainer: Trainer = instantiate(node, **parts)
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(
            f"trainer.accelerator={node.get('accelerator')}, trainer.devices={node.get('devices')}: {error} "
            f"This machine has {torch.cuda.device_count()} CUDA devices; accelerator=auto devices=1 fit any"
        ) from error
    return trainer
