"""What a training step costs, and which part of it the losses are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from swahr.benchmark.measure import Case
from swahr.benchmark.memory import peak_bytes
from swahr.benchmark.networks import can_compile, untrained_network
from swahr.benchmark.synchronisation import waits
from swahr.benchmark.training import total_loss, training_batch, with_gradients
from swahr.build import create
from swahr.loss import Criterion
from swahr.model import HigherHRNet
from swahr.structures import Batch
from swahr.target import TargetEncoder
from swahr.training import prepare_network


def step_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Targets, forward, losses and backward with each of ``config.step.models``; then the losses alone."""
    criterion: Criterion = create(config.loss)
    batch = training_batch(config, config.step.people, images=config.step.images, device=device)
    for name, model in config.step.models.items():
        networks = {"ours": _network(config, model, device, compiled=False)}
        if config.step.compile and can_compile():
            networks["compiled"] = _network(config, model, device, compiled=True)
        yield _case(config, str(name), networks, criterion, batch)


def _network(config: DictConfig, model: DictConfig, device: torch.device, *, compiled: bool) -> HigherHRNet:
    network = untrained_network(config, model, device).train()
    return prepare_network(network, channels_last=True, compile=compiled, activation_checkpointing=False)


def _case(
    config: DictConfig, model: str, networks: dict[str, HigherHRNet], criterion: Criterion, batch: Batch
) -> Case:
    device, network = batch.images.device, networks["ours"]
    encode: TargetEncoder = create(config.target, strides=network.strides)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.step.precision == "bf16")

    def step(network: HigherHRNet) -> None:
        network.zero_grad()
        with autocast:
            loss = total_loss(criterion(network(batch.images), encode(batch)))
        loss.backward()  # type: ignore[no-untyped-call]

    def in_steps(network: HigherHRNet) -> Callable[[], None]:
        return lambda: step(network)

    variants: dict[str, Callable[[], Any]] = {name: in_steps(one) for name, one in networks.items()}
    targets = encode(batch)
    with torch.no_grad(), autocast:
        output = network(batch.images)

    def losses() -> tuple[Tensor, list[Tensor]]:
        with autocast:
            return with_gradients(output, lambda maps: total_loss(criterion(maps, targets)))

    notes: dict[str, float] = {}
    if device.type == "cuda" and (peak := peak_bytes(variants["ours"], device)) is not None:
        waiting = sum(waits(variants["ours"], device).values())
        notes = {"peak memory, GB": peak / 1e9, "waits for the GPU": waiting}
    images, size = len(batch), config.train_size
    name = f"{model}, {images} images of {size}x{size}, {config.step.precision}"
    variants["losses alone"] = losses
    return Case("training step", name, config.step.people, variants, notes=notes, work={"images": images})
