"""What surrounds the network in a training step: targets and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from swahr.benchmark.crowd import crowd_batch
from swahr.benchmark.measure import Case
from swahr.benchmark.plain import load_plain
from swahr.build import build_network
from swahr.loss import Criterion
from swahr.loss.tags import associative_embedding
from swahr.nodes import create
from swahr.skeleton import COCO
from swahr.structures import Batch, Maps, NetworkOutput, Targets
from swahr.target import TargetEncoder

_STRIDES = (4, 2)
Losses = tuple[Tensor, list[Tensor]]


def target_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Targets of one image at two strides, beside the loop over people that draws patches."""
    plain = load_plain("training")
    encode: TargetEncoder = create(config.target, strides=_STRIDES)
    size = (config.train_size, config.train_size)
    for count in people:
        batch = training_batch(config, count, images=1, device=device)

        def loop(batch: Batch = batch) -> list[Any]:
            at, seen = batch.keypoints.cpu().numpy(), batch.visibility.cpu().numpy()
            sizes = [(size[0] // stride, size[1] // stride) for stride in _STRIDES]
            indices = [at / stride - 0.5 for stride in _STRIDES]
            maps = [plain.heatmaps(i, seen, s, encode.sigma) for i, s in zip(indices, sizes, strict=True)]
            return [*maps, plain.tag_index(indices[0], seen, sizes[0])]

        def ours(batch: Batch = batch) -> Targets:
            return encode(batch)

        name = f"one image of {size[0]}x{size[1]}, strides 4 and 2"
        yield Case("targets", name, count, {"ours": ours, "plain": loop}, _compare_targets)


def _compare_targets(ours: Targets, plain: list[Any]) -> None:
    *maps, index = plain
    for found, expected in zip(ours.maps, maps, strict=True):
        np.testing.assert_allclose(found.heatmaps.cpu().numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.tag_index.cpu().numpy(), index)


def loss_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """The tag loss and all losses, forward and backward."""
    criterion: Criterion = create(config.loss)
    network = build_network(config.model, COCO, criterion).to(device).train()
    encode: TargetEncoder = create(config.target, strides=network.strides)
    for count in people:
        batch = training_batch(config, count, images=config.train_images, device=device)
        targets = encode(batch)
        with torch.no_grad():
            output = network(batch.images)
        name = f"{config.train_images} images of {config.train_size}x{config.train_size}"
        yield _tag_case(name, count, output, targets, with_plain=count <= config.plain_people)
        yield _losses_case(name, count, output, targets, criterion, with_plain=count <= config.plain_people)


def _tag_case(name: str, people: int, output: NetworkOutput, targets: Targets, *, with_plain: bool) -> Case:
    assert output[0].tags is not None
    tags, index = output[0].tags.detach(), targets.tag_index
    plain = load_plain("training").associative_embedding

    def run(loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Losses:
        leaf = tags.clone().requires_grad_()
        total = torch.stack(tuple(loss(leaf, index))).sum()
        return total.detach(), list(torch.autograd.grad(total, [leaf]))

    variants = {"ours": lambda: run(associative_embedding)}
    if with_plain:
        variants["plain"] = lambda: run(plain)
    return Case("losses", f"associative embedding, {name}", people, variants, _compare_losses)


def _losses_case(
    name: str,
    people: int,
    output: NetworkOutput,
    targets: Targets,
    criterion: Criterion,
    *,
    with_plain: bool,
) -> Case:
    plain = load_plain("training")

    def loop(maps: NetworkOutput) -> Tensor:
        terms = []
        for said, taught in zip(maps, targets.maps, strict=True):
            terms += plain.heatmap_losses(
                said.heatmaps, said.scales, taught.heatmaps, taught.valid, criterion.gamma
            )
        pull, push = plain.associative_embedding(maps[0].tags, targets.tag_index)
        terms += [criterion.pull_weight * pull, criterion.push_weight * push]
        return torch.stack([term.mean() for term in terms]).sum()

    faithful = (criterion.scale_target, criterion.weight) == ("taylor", "derived")
    variants = {"ours": _losses(output, targets, criterion)}
    if faithful and with_plain:
        variants["plain"] = lambda: with_gradients(output, loop)
    return Case("losses", f"all, {name}", people, variants, _compare_losses)


def _losses(output: NetworkOutput, targets: Targets, criterion: Criterion) -> Callable[[], Losses]:
    return lambda: with_gradients(output, lambda maps: total_loss(criterion(maps, targets)))


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """What is trained: the sum of the terms' means over the batch."""
    return torch.stack([term.mean() for term in terms.values()]).sum()


def with_gradients(output: NetworkOutput, loss: Callable[[NetworkOutput], Tensor]) -> Losses:
    """A loss, and its gradients with respect to every map."""
    leaves: list[Tensor] = []

    def leaf(values: Tensor | None) -> Tensor | None:
        if values is not None:
            values = values.detach().requires_grad_()
            leaves.append(values)
        return values

    maps: list[Maps] = []
    for said in output:
        heatmaps = leaf(said.heatmaps)
        assert heatmaps is not None
        tags, scales, weights = map(leaf, (said.tags, said.scales, said.weights))
        maps.append(replace(said, heatmaps=heatmaps, tags=tags, scales=scales, weights=weights))
    total = loss(tuple(maps))
    return total.detach(), list(torch.autograd.grad(total, leaves))


def _compare_losses(ours: Losses, plain: Losses) -> None:
    torch.testing.assert_close(ours[0], plain[0], rtol=1e-4, atol=1e-8)
    for found, expected in zip(ours[1], plain[1], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


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
