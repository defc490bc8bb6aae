"""The test-time pipeline from images to poses, shared by training, evaluation and prediction."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swahr.aggregate import Inputs
from swahr.structures import DenseMaps, Poses

Network = Callable[[Tensor], Any]
"""Predicts maps of prepared images: a `NetworkOutput`, or another input of the aggregator."""
Image = npt.NDArray[np.uint8]
Waiting = tuple[dict[int, Image], Inputs]
"""Images by their index in the stream, and the same images prepared for the network."""
Step = Callable[[Sequence[Image], list[Poses]], list[Poses]]
"""A post-processing step: returns new poses, given the images of a batch and their poses."""
T = TypeVar("T")

_WAITING_BATCHES = 8  # an incomplete batch runs after this many further batches have been read


@runtime_checkable
class Aggregate(Protocol):
    """Interface of `swahr.aggregate.Aggregator`, for images with one input size."""

    def input_sizes(self, image_size: tuple[int, int]) -> dict[float, tuple[int, int]]:
        """The network's input size at each test scale."""

    def prepare(self, images: Sequence[Image]) -> Inputs:
        """Images warped into the network's input frames."""

    def merge(self, network: Network, inputs: Inputs) -> DenseMaps:
        """The network's maps of prepared images, merged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PosePipeline:
    """Predicts poses in images of any sizes; images with the same input size are batched.

    On a GPU, the next batch is read, warped and copied while the network runs.

    Args:
        aggregate: predicts and merges dense maps (`swahr.aggregate.Aggregator`).
        decode: converts dense maps to poses (`swahr.decode.Decoder`).
        steps: post-processing steps, applied in order.
        batch_size: maximum number of images per batch.
    """

    aggregate: Aggregate
    decode: Callable[[DenseMaps], list[Poses]]
    steps: Sequence[Step] = ()
    batch_size: int = 8

    def __call__(self, network: Network, images: Iterable[Image], device: torch.device) -> list[Poses]:
        """Return the poses in each of several RGB images ``(H W 3)``, in their order."""
        return list(self.stream(network, images, device))

    def stream(self, network: Network, images: Iterable[Image], device: torch.device) -> Iterator[Poses]:
        """Yield the poses in each image, in order; only a few images are in memory at a time."""
        poses: dict[int, Poses] = {}
        due = 0
        for waiting, inputs in _on_device(self._batches(images), device):
            found = self.decode(self.aggregate.merge(network, inputs))
            for step in self.steps:
                found = step(list(waiting.values()), found)
            poses.update(zip(waiting, found, strict=True))
            while due in poses:
                yield poses.pop(due)
                due += 1

    def _batches(self, images: Iterable[Image]) -> Iterator[Waiting]:
        """Full batches, and incomplete ones whose oldest image has waited for too long."""
        buckets: defaultdict[tuple[tuple[int, int], ...], dict[int, Image]] = defaultdict(dict)
        patience = _WAITING_BATCHES * self.batch_size
        for i, image in enumerate(images):
            key = tuple(self.aggregate.input_sizes(image.shape[:2]).values())
            buckets[key][i] = image
            if len(buckets[key]) == self.batch_size:
                yield self._prepared(buckets.pop(key))
            oldest = next(iter(buckets), None)
            if oldest is not None and i - next(iter(buckets[oldest])) >= patience:
                yield self._prepared(buckets.pop(oldest))
        yield from map(self._prepared, buckets.values())

    def _prepared(self, images: dict[int, Image]) -> Waiting:
        return images, self.aggregate.prepare(list(images.values()))


def _on_device(batches: Iterator[Waiting], device: torch.device) -> Iterator[Waiting]:
    """Batches on the device. On CUDA the next one is copied ahead, from pinned memory on a side stream."""
    if device.type != "cuda":
        yield from ((images, inputs.to(device)) for images, inputs in batches)
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's

    def copied() -> Iterator[Waiting]:
        for images, inputs in batches:
            with torch.cuda.stream(copies):
                moved = inputs.pin_memory().to(device)
            yield images, moved

    for images, inputs in _one_ahead(copied()):
        current = torch.cuda.current_stream(device)
        current.wait_stream(copies)
        inputs.record_stream(current)
        yield images, inputs


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; a thread computes the next one while the current one is in use."""
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item
