"""Shared parts of the training benchmarks: batches, losses with gradients, and training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.crowd import crowd_batch
from benchmarks.networks import can_compile, untrained_network
from swahr.loss import Criterion
from swahr.model import HigherHRNet
from swahr.nodes import instantiate
from swahr.skeleton import COCO
from swahr.structures import Batch, Maps, NetworkOutput
from swahr.targets import TargetEncoder
from swahr.training import prepare_network

Losses = tuple[Tensor, list[Tensor]]
"""A loss, and its gradients with respect to every map."""


def training_batch(config: DictConfig, people: int, *, images: int, device: torch.device) -> Batch:
    """A batch of ``config.train_size``."""
    return crowd_batch(
        people,
        images=images,
        keypoints=COCO.num_keypoints,
        size=(config.train_size, config.train_size),
        device=device,
        seed=config.seed,
    )


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """The training loss: the sum of the terms' means over the batch."""
    return torch.stack([term.mean() for term in terms.values()]).sum()


def with_gradients(output: NetworkOutput, loss: Callable[[NetworkOutput], Tensor]) -> Losses:
    """A loss, and its gradients with respect to every map."""
    leaves = tuple(
        Maps(
            maps.stride,
            {name: values.detach().clone().requires_grad_() for name, values in maps.fields.items()},
        )
        for maps in output
    )
    total = loss(leaves)
    fields = [values for maps in leaves for values in maps.fields.values()]
    return total.detach(), list(torch.autograd.grad(total, fields))


def compare_losses(ours: Losses, expected: Losses) -> None:
    """Compare losses and gradients up to the rounding of float32 sums.

    Raises:
        AssertionError: they differ.
    """
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-4, atol=1e-8)
    for found, wanted in zip(ours[1], expected[1], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-7)


class TrainingStep:
    """Targets, forward, losses and backward of a network on one batch; the optimiser is left out.

    Args:
        network: in training mode, with the maps that ``criterion`` needs.
        criterion: its losses.
        encode: its targets.
        batch: the batch, on the network's device.
        precision: ``fp32``, or ``bf16`` for autocast.
    """

    def __init__(
        self,
        network: HigherHRNet,
        criterion: Criterion,
        encode: TargetEncoder,
        batch: Batch,
        precision: str,
    ) -> None:
        self.network = network
        self.criterion = criterion
        self.encode = encode
        self.batch = batch
        self._autocast = torch.autocast(batch.images.device.type, torch.bfloat16, enabled=precision == "bf16")

    def __call__(self) -> None:
        """One step."""
        self.network.zero_grad()
        with self._autocast:
            output = self.network(self.batch.images)
            loss = total_loss(self.criterion(output, self.encode(self.batch)))
        loss.backward()  # type: ignore[no-untyped-call] # torch's

    def losses_alone(self, criterion: Criterion | None = None) -> Callable[[], Losses]:
        """The step's losses and their gradients with respect to the network's maps.

        Args:
            criterion: some of the step's losses; None: all of them.
        """
        chosen = criterion or self.criterion
        targets = self.encode(self.batch)
        with torch.no_grad(), self._autocast:
            output = self.network(self.batch.images)
        needed = tuple(
            Maps(maps.stride, {name: maps.fields[name] for name in maps.fields if name in chosen.needs})
            for maps in output
        )

        def losses() -> Losses:
            with self._autocast:
                return with_gradients(needed, lambda maps: total_loss(chosen(maps, targets)))

        return losses


def training_steps(
    config: DictConfig, modes: Sequence[str], device: torch.device
) -> Iterator[tuple[str, str, TrainingStep]]:
    """A step of each of ``config.step.models``, precisions and modes: model, precision and mode, step.

    Args:
        config: as in ``conf/benchmark.yaml``; models that are null are left out.
        modes: ``eager`` and ``compiled``, which is left out without a compiler.
        device: of the networks.
    """
    criterion: Criterion = instantiate(config.loss)
    batch = training_batch(config, config.step.people, images=config.step.images, device=device)
    models = {name: model for name, model in config.step.models.items() if model is not None}
    available = [mode for mode in modes if mode == "eager" or can_compile()]
    for name, precision, mode in product(models, config.step.precisions, available):
        network = prepare_network(
            untrained_network(config, models[name], device).train(),
            channels_last=True,
            compile=mode == "compiled",
            activation_checkpointing=False,
        )
        assert isinstance(network, HigherHRNet)
        encode: TargetEncoder = instantiate(config.targets, strides=network.strides)
        how = f"{precision}{', compiled' if mode == 'compiled' else ''}"
        yield name, how, TrainingStep(network, criterion, encode, batch, precision)
