"""Shared parts of the training benchmarks: batches, maps, losses with gradients, and training steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import product

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.crowd import crowd_batch
from benchmarks.networks import can_compile, untrained_network
from swahr.execution import prepare_network
from swahr.loss import Criterion
from swahr.model import HigherHRNet
from swahr.nodes import instantiate
from swahr.skeleton import COCO
from swahr.structures import Batch, Maps, NetworkOutput, Targets
from swahr.targets import TargetEncoder

STRIDES = (4, 2)
"""Of maps without a network."""

_GRADIENT = 1e-5  # of each gradient's largest value, for float32

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


def random_maps(
    config: DictConfig, names: Collection[str], people: int, *, images: int, device: torch.device
) -> tuple[NetworkOutput, Targets]:
    """Maps of a network in the middle of training, and the targets of a batch of ``config.train_size``.

    Values are normal with standard deviation 1/2. An untrained network is of no use here: it predicts 0 for
    scale and weight maps, with which adaptive losses are the plain one.

    Args:
        config: as in ``conf/benchmark.yaml``.
        names: of the maps, such as `swahr.loss.Criterion.needs`. Tags are at the coarsest stride only.
        people: their number per image.
        images: their number.
        device: of the result; the values are the same on all.
    """
    batch = training_batch(config, people, images=images, device=device)
    encode: TargetEncoder = instantiate(config.targets, strides=STRIDES)
    targets = encode(batch)
    generator = torch.Generator().manual_seed(config.seed)
    output = []
    for target in targets.maps:
        own = [name for name in sorted({"heatmaps", *names}) if name != "tags" or target.stride == STRIDES[0]]
        shape = target.heatmaps.shape
        fields = {name: (torch.randn(shape, generator=generator) / 2).to(device) for name in own}
        output.append(Maps(target.stride, fields))
    return tuple(output), targets


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
    """Compare losses and gradients up to rounding in float32.

    Gradients are means over all pixels, hence tiny: their tolerance is relative to the largest value of each.

    Raises:
        AssertionError: they differ.
    """
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-5, atol=0, check_dtype=False)
    for found, wanted in zip(ours[1], expected[1], strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=_GRADIENT * float(wanted.abs().max()))


class TrainingStep:
    """Targets, forward, losses and backward of an untrained network; the optimiser is left out.

    Args:
        config: as in ``conf/benchmark.yaml``, with the losses and the targets.
        model: the network's node.
        device: of the network.
        precision: ``fp32``, or ``bf16`` for autocast.
        compile: compile the network.
    """

    def __init__(
        self,
        config: DictConfig,
        model: DictConfig,
        device: torch.device,
        *,
        precision: str = "fp32",
        compile: bool = False,  # noqa: A002 - named as in training
    ) -> None:
        self.criterion: Criterion = instantiate(config.loss)
        self.network = prepare_network(
            untrained_network(config, model, device).train(),
            channels_last=True,
            compile=compile,
            activation_checkpointing=False,
        )
        assert isinstance(self.network, HigherHRNet)
        self.encode: TargetEncoder = instantiate(config.targets, strides=self.network.strides)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def __call__(self, batch: Batch) -> None:
        """One step on a batch, which is on the network's device."""
        self.network.zero_grad()
        with self._autocast:
            output = self.network(batch.images)
            loss = total_loss(self.criterion(output, self.encode(batch)))
        loss.backward()  # type: ignore[no-untyped-call] # torch's

    def losses_alone(self, batch: Batch, criterion: Criterion | None = None) -> Callable[[], Losses]:
        """The losses of a step on ``batch``, and their gradients with respect to the network's maps.

        Args:
            batch: on the network's device.
            criterion: some of the step's losses; None: all of them.
        """
        chosen = criterion or self.criterion
        targets = self.encode(batch)
        with torch.no_grad(), self._autocast:
            output = self.network(batch.images)
        needed = tuple(
            Maps(maps.stride, {name: maps.fields[name] for name in maps.fields if name in chosen.needs})
            for maps in output
        )

        def losses() -> Losses:
            with self._autocast:
                return with_gradients(needed, lambda maps: total_loss(chosen(maps, targets)))

        return losses


def loss_bound(config: DictConfig, model: str, variant: str) -> dict[str, float]:
    """``bounds`` of a `benchmarks.measure.Case`: the goal for the losses' share of a model's step, if any."""
    bound = config.step.loss_bounds.get(model)
    return {} if bound is None else {variant: bound}


def training_steps(
    config: DictConfig, modes: Sequence[str], device: torch.device
) -> Iterator[tuple[str, str, TrainingStep, Batch]]:
    """A step of each of ``config.step.models``, precisions and modes: model, how, step and its batch.

    Args:
        config: as in ``conf/benchmark.yaml``; models that are null are left out.
        modes: ``eager`` and ``compiled``, which is left out without a compiler.
        device: of the networks.
    """
    batch = training_batch(config, config.step.people, images=config.step.images, device=device)
    models = {name: model for name, model in config.step.models.items() if model is not None}
    available = [mode for mode in modes if mode == "eager" or can_compile()]
    for name, precision, mode in product(models, config.step.precisions, available):
        compiled = mode == "compiled"
        step = TrainingStep(config, models[name], device, precision=precision, compile=compiled)
        yield name, f"{precision}{', compiled' if compiled else ''}", step, batch
