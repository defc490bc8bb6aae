"""Training targets, beside a loop over people and keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from reference.targets import heatmaps, map_indices, tag_index

from benchmarks.measure import Case
from benchmarks.training import STRIDES, training_batch
from swahr.nodes import instantiate
from swahr.structures import Batch, Targets
from swahr.targets import TargetEncoder


def target_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Targets of one image at two strides."""
    encode: TargetEncoder = instantiate(config.targets, strides=STRIDES)
    size = (config.train_size, config.train_size)
    for count in people:
        batch = training_batch(config, count, images=1, device=device)

        def loop(batch: Batch = batch) -> list[Any]:
            at, seen = batch.keypoints.cpu().numpy(), batch.visibility.cpu().numpy()
            sizes = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
            indices = [map_indices(at, stride) for stride in STRIDES]
            maps = [heatmaps(i, seen, s, encode.sigma) for i, s in zip(indices, sizes, strict=True)]
            return [*maps, tag_index(indices[0], seen, sizes[0])]

        def ours(batch: Batch = batch) -> Targets:
            return encode(batch)

        name = f"one image of {size[0]}x{size[1]}, strides 4 and 2"
        yield Case("targets", name, count, {"ours": ours, "plain": loop}, _compare)


def _compare(ours: Targets, slow: list[Any]) -> None:
    *maps, index = slow
    for found, expected in zip(ours.maps, maps, strict=True):
        np.testing.assert_allclose(found.heatmaps.cpu().numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.tag_index.cpu().numpy(), index)
