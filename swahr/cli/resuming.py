"""Resuming: what can be said of a training state before a run's folder is made."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from swahr.checkpoint import damage_reported, described_or_fail, read_ckpt
from swahr.migration import FORMAT


def read_resumable(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state of training in a ``.ckpt`` of this format.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is damaged, of another kind or format, or has weights only.
    """
    path = Path(path)
    if path.suffix != ".ckpt":
        raise ValueError(
            f"ckpt={path}: expected a training run's .ckpt; to start a new run from it, use weights={path}"
        )
    content = read_ckpt(path)
    description = described_or_fail(path, content.get("swahr"))
    with damage_reported(path):
        number = json.loads(description).get("format", 1)
    if number != FORMAT:
        raise ValueError(
            f"{path}: expected a training run of this version of swahr, but an older one wrote it; its "
            f"optimiser state does not fit. Start a new run from its weights: weights={path}"
        )
    if missing := sorted({"loops", "optimizer_states", "lr_schedulers", "global_step"} - content.keys()):
        raise ValueError(
            f"{path}: expected the state of a training run, but {', '.join(missing)} are missing; start "
            f"a new run from its weights: weights={path}"
        )
    return content


def check_resumes(path: str, state: Mapping[str, Any], module: LightningModule, trainer: Trainer) -> None:
    """Raise ValueError unless a run can resume from a training state and has steps left."""
    ours = module.state_dict()
    for theirs in (state["state_dict"], state.get("current_model_state", state["state_dict"])):
        shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (theirs, ours)]
        differing = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
        if differing:
            first = differing[0]
            raise ValueError(
                f"ckpt={path}: expected the network and loss of this run, but {len(differing)} tensors "
                f"differ, first {first}: {shapes[0].get(first)} in the file and {shapes[1].get(first)} here; "
                f"resume with the options of that run, or start a new one from its weights: weights={path}"
            )
    epochs = state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    for name, done, most in (
        ("epochs", epochs, trainer.max_epochs),
        ("steps", state["global_step"], trainer.max_steps),
    ):
        if most is not None and 0 <= most <= done:
            raise ValueError(
                f"ckpt={path}: expected a run with {name} left, but it has trained {done} and "
                f"trainer.max_{name}={most}; set more, or start a new run from its weights: weights={path}"
            )
