"""What a training step costs, and which part of it the losses are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from swahr.benchmark.measure import Case
from swahr.benchmark.memory import peak_bytes
from swahr.benchmark.networks import can_compile, untrained_network
from swahr.benchmark.synchronisation import waits
from swahr.benchmark.training import total_loss, training_batch, with_gradients
from swahr.loss import Criterion
from swahr.model import HigherHRNet
from swahr.nodes import create
from swahr.structures import Batch
from swahr.target import TargetEncoder
from swahr.training import prepare_network


def step_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Targets, forward, losses and backward with each of ``config.step.models``, beside the losses alone."""
    criterion: Criterion = create(config.loss)
    batch = training_batch(config, config.step.people, images=config.step.images, device=device)
    ways = (False, True) if config.step.compile and can_compile() else (False,)
    choices = product(config.step.models.items(), config.step.precisions, ways)
    for (name, model), precision, compiled in choices:
        network = prepare_network(
            untrained_network(config, model, device).train(),
            channels_last=True,
            compile=compiled,
            activation_checkpointing=False,
        )
        way = f"{name}, {precision}{', compiled' if compiled else ''}"
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        yield _case(config, way, network, criterion, batch, autocast)


def _case(
    config: DictConfig,
    way: str,
    network: HigherHRNet,
    criterion: Criterion,
    batch: Batch,
    autocast: AbstractContextManager[Any],
) -> Case:
    device = batch.images.device
    encode: TargetEncoder = create(config.target, strides=network.strides)

    def step() -> None:
        network.zero_grad()
        with autocast:
            loss = total_loss(criterion(network(batch.images), encode(batch)))
        loss.backward()  # type: ignore[no-untyped-call] # torch's

    targets = encode(batch)
    with torch.no_grad(), autocast:
        output = network(batch.images)

    def losses() -> tuple[Tensor, list[Tensor]]:
        with autocast:
            return with_gradients(output, lambda maps: total_loss(criterion(maps, targets)))

    images, size = len(batch), config.train_size
    return Case(
        section="training step",
        name=f"{way}, {images} images of {size}x{size}",
        people=config.step.people,
        variants={"ours": step, "losses alone": losses},
        notes=_on_gpu(step, device) if device.type == "cuda" else {},
        work={"images": images},
    )


def _on_gpu(step: Callable[[], None], device: torch.device) -> dict[str, float]:
    step()  # the first compiles, and tries what is quickest
    peak = peak_bytes(step, device)
    assert peak is not None
    return {"peak memory, GB": peak / 1e9, "waits for the GPU": sum(waits(step, device).values())}
