"""The second stage beside the first, and in batches beside one person at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from omegaconf import DictConfig

from benchmarks.crowd import crowd_keypoints
from benchmarks.measure import Case
from benchmarks.networks import coco_facts, untrained_network
from benchmarks.poses import compare_poses
from swahr.aggregate import Aggregator
from swahr.build import network_facts
from swahr.inference import TorchNetwork
from swahr.nodes import instantiate
from swahr.second_stage import SecondStage
from swahr.skeleton import COCO
from swahr.structures import DenseMaps, Poses

_BOUND, _BOUND_PEOPLE = 1.5, 30


def second_stage_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """One image of noise, with some people, through both untrained networks, both with their mirror images.

    The first stage is timed without grouping and decoding, the second from the poses to new poses.
    """
    settings = config.second_stage
    size = (settings.size, settings.size)
    image = np.random.default_rng(config.seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    first = TorchNetwork(untrained_network(config, config.model, device), device=device)
    person = untrained_network(config, settings.model, device, needs=frozenset({"heatmaps"}))
    second = TorchNetwork(person, device=device)
    facts = coco_facts(config)
    aggregate = instantiate(
        config.native.aggregate, **facts | network_facts(first) | {"input_size": settings.size}
    )
    refine = instantiate(config.native.decode.refine, **facts)
    crop_size = tuple(settings.crop_size)
    # An untrained network's heat may be negative everywhere.
    batched, alone = (
        SecondStage(COCO, refine, crop_size, threshold=-np.inf, batch_size=batch_size)
        for batch_size in (64, 1)
    )
    for count in people:
        poses = _crowd(count, size, config.seed)

        def stage(run: SecondStage, poses: Poses = poses) -> list[Poses]:
            return run(second, [image], [poses], device)

        name = f"first stage, {size[0]}x{size[1]}; second stage, crops of {crop_size[0]}x{crop_size[1]}"
        variants = {
            "ours": partial(_maps, aggregate, first, image, device),
            "second stage": partial(stage, batched),
        }
        bounds = {"second stage": _BOUND} if count <= _BOUND_PEOPLE else {}
        yield Case("second stage", name, count, variants, bounds=bounds)
        plain = {"ours": partial(stage, batched), "plain": partial(stage, alone)}
        yield Case(
            "second stage", "second stage, in batches", count, plain, compare_poses, work={"people": count}
        )


def _maps(aggregate: Aggregator, network: TorchNetwork, image: np.ndarray, device: torch.device) -> DenseMaps:
    return aggregate(network, [image], device)


def _crowd(people: int, size: tuple[int, int], seed: int) -> Poses:
    generator = torch.Generator().manual_seed(seed)
    keypoints = crowd_keypoints(people, COCO.num_keypoints, size, generator).double().numpy()
    scores = np.ones(keypoints.shape[:2])
    return Poses(keypoints, scores, scores.mean(axis=1), scores > 0, COCO)
