"""Losses, forward and backward, beside loops; and the heatmap loss's share of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from omegaconf import DictConfig
from reference import losses as reference
from torch import Tensor

from benchmarks.measure import Action, Case
from benchmarks.training import (
    Losses,
    compare_losses,
    loss_bound,
    random_maps,
    total_loss,
    training_steps,
    with_gradients,
)
from swahr.loss import (
    Criterion,
    DerivedWeight,
    HeatmapRegression,
    ScaleMapPenalty,
    StrideTerm,
    TagLoss,
    TaylorTarget,
)
from swahr.loss.tags import associative_embedding
from swahr.nodes import instantiate
from swahr.structures import NetworkOutput, Targets


def loss_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """The tag loss, all losses, and the heatmap loss's share of the steps of ``config.step.models``."""
    criterion: Criterion = instantiate(config.loss)
    images, size = config.train_images, config.train_size
    name = f"{images} images of {size}x{size}"
    for count in people:
        output, targets = random_maps(config, criterion.needs, count, images=images, device=device)
        with_plain = count <= config.plain_people
        yield _tag_case(name, count, output, targets, with_plain=with_plain)
        yield _losses_case(name, count, output, targets, criterion, with_plain=with_plain)
    yield from _share_cases(config, heatmap_criterion(criterion), device)


def heatmap_criterion(criterion: Criterion) -> Criterion:
    """The heatmap loss: all terms except the tag loss."""
    return Criterion({name: term for name, term in criterion.terms.items() if isinstance(term, StrideTerm)})


def _share_cases(config: DictConfig, criterion: Criterion, device: torch.device) -> Iterator[Case]:
    """The heatmap loss beside the whole step, with its bound if ``config`` has one."""
    images, size = config.step.images, config.train_size
    for model, how, step, batch in training_steps(config, ["eager"], device):
        variant = "heatmap loss alone"
        yield Case(
            section="losses",
            name=f"a step of {model}, {how}, {images} images of {size}x{size}",
            people=config.step.people,
            variants={"ours": partial(step, batch), variant: step.losses_alone(batch, criterion)},
            bounds=loss_bound(config, model, variant),
        )


def _tag_case(name: str, people: int, output: NetworkOutput, targets: Targets, *, with_plain: bool) -> Case:
    assert output[0].tags is not None
    tags, index = output[0].tags.detach(), targets.tag_index

    def run(loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Losses:
        leaf = tags.clone().requires_grad_()
        total = torch.stack(tuple(loss(leaf, index))).sum()
        return total.detach(), list(torch.autograd.grad(total, [leaf]))

    variants: dict[str, Action] = {"ours": lambda: run(associative_embedding)}
    if with_plain:
        variants["plain"] = lambda: run(reference.associative_embedding)
    return Case("losses", f"associative embedding, {name}", people, variants, compare_losses)


def _losses_case(
    name: str,
    people: int,
    output: NetworkOutput,
    targets: Targets,
    criterion: Criterion,
    *,
    with_plain: bool,
) -> Case:
    def ours(maps: NetworkOutput) -> Tensor:
        return total_loss(criterion(maps, targets))

    loop = _swahr_in_loops(criterion, targets)
    variants: dict[str, Action] = {"ours": lambda: with_gradients(output, ours)}
    if loop is not None and with_plain:
        variants["plain"] = lambda: with_gradients(output, loop)
    return Case("losses", f"all, {name}", people, variants, compare_losses)


def _swahr_in_loops(criterion: Criterion, targets: Targets) -> Callable[[NetworkOutput], Tensor] | None:
    """The plain version of ``loss=swahr``; None for other losses."""
    terms_of_kinds = {type(term): term for term in criterion.terms.values()}
    kinds = (HeatmapRegression, ScaleMapPenalty, TagLoss)
    if len(criterion.terms) != len(kinds) or terms_of_kinds.keys() != set(kinds):
        return None
    heatmap, scale_map, tag_loss = (terms_of_kinds[kind] for kind in kinds)
    weight = heatmap.pixel_weight
    if not isinstance(heatmap.adaptation, TaylorTarget) or not isinstance(weight, DerivedWeight):
        return None

    def loss(output: NetworkOutput) -> Tensor:
        terms = []
        for maps, target in zip(output, targets.maps, strict=True):
            error = reference.heatmap_loss(
                maps.heatmaps,
                target.heatmaps,
                target.valid,
                form="taylor",
                weight="derived",
                scale_maps=maps.scale_maps,
                gamma=weight.gamma,
            )
            penalty = reference.scale_map_penalty(maps.scale_maps, target.heatmaps, target.valid)
            terms += [heatmap.weight * error, scale_map.weight * penalty]
        pull, push = reference.associative_embedding(output[0].tags, targets.tag_index, tag_loss.closeness)
        terms += [tag_loss.pull * pull, tag_loss.push * push]
        return torch.stack([term.mean() for term in terms]).sum()

    return loss
