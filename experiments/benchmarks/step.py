"""The training step, and the losses' share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from omegaconf import DictConfig

from benchmarks.measure import Case
from benchmarks.memory import peak_bytes
from benchmarks.synchronisation import synchronisations
from benchmarks.training import loss_bound, training_steps


def step_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Targets, forward, losses and backward with each of ``config.step.models``, beside the losses alone."""
    images, size = config.step.images, config.train_size
    for model, how, step, batch in training_steps(config, config.step.modes, device):
        ours = partial(step, batch)
        yield Case(
            section="training step",
            name=f"{model}, {how}, {images} images of {size}x{size}",
            people=config.step.people,
            variants={"ours": ours, "losses alone": step.losses_alone(batch)},
            notes=_on_gpu(ours, device) if device.type == "cuda" else {},
            work={"images": images},
            bounds=loss_bound(config, model, "losses alone"),
        )


def _on_gpu(step: Callable[[], None], device: torch.device) -> dict[str, float]:
    step()  # the first compiles, and benchmarks convolutions
    peak = peak_bytes(step, device)
    assert peak is not None
    return {"peak memory, GB": peak / 1e9, "synchronisations": sum(synchronisations(step, device).values())}
