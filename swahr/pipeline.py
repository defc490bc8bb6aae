"""From images to poses: the test-time pipeline that training, evaluation and prediction share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swahr.aggregate import Inputs
from swahr.structures import DenseMaps, Poses

Network = Callable[[Tensor], Any]  # `NetworkOutput`, or whatever else its aggregator reads
Image = npt.NDArray[np.uint8]
Batch = tuple[list[int], Inputs]
T = TypeVar("T")

_WAITING_BATCHES = 8  # an image waits for others of its shape until so many batches more have been read


@runtime_checkable
class Aggregate(Protocol):
    """Makes dense maps of images with one input size (`swahr.aggregate.Aggregator`)."""

    def input_sizes(self, image_size: tuple[int, int]) -> dict[float, tuple[int, int]]:
        """Size of the network's input for each test scale."""

    def prepare(self, images: Sequence[Image]) -> Inputs:
        """Warp images into the network's input frames."""

    def merge(self, network: Network, inputs: Inputs) -> DenseMaps:
        """Aggregate what the network says of them."""


class PosePipeline:
    """Runs a network over images of any sizes, in batches with one size of the network's input.

    On a GPU the next batch is read, warped and copied there while the network is at work.

    Args:
        aggregate: makes dense maps.
        decode: turns dense maps into poses (`swahr.decode.Decoder`).
        batch_size: images a batch, at most.
    """

    def __init__(
        self, *, aggregate: Aggregate, decode: Callable[[DenseMaps], list[Poses]], batch_size: int = 8
    ) -> None:
        self.aggregate = aggregate
        self.decode = decode
        self.batch_size = batch_size

    def __call__(self, network: Network, images: Iterable[Image], device: torch.device) -> list[Poses]:
        """Find the people in RGB images ``(H W 3)``; one `Poses` each, in the order given."""
        return list(self.stream(network, images, device))

    def stream(self, network: Network, images: Iterable[Image], device: torch.device) -> Iterator[Poses]:
        """The same, one after the other: of any number of images, few are held at a time."""
        poses: dict[int, Poses] = {}
        due = 0
        for indices, inputs in _on_device(self._batches(images), device):
            poses.update(zip(indices, self.decode(self.aggregate.merge(network, inputs)), strict=True))
            while due in poses:
                yield poses.pop(due)
                due += 1

    def _batches(self, images: Iterable[Image]) -> Iterator[Batch]:
        """Full batches as soon as there are any, and images that waited long for others of their shape."""
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

    def _prepared(self, images: dict[int, Image]) -> Batch:
        return list(images), self.aggregate.prepare(list(images.values()))


def _on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on the device; to a GPU they go one ahead, from page-locked memory on a stream of their own."""
    if device.type != "cuda":
        yield from ((indices, inputs.to(device)) for indices, inputs in batches)
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's

    def copied() -> Iterator[Batch]:
        for indices, inputs in batches:
            with torch.cuda.stream(copies):
                moved = inputs.pin_memory().to(device)
            yield indices, moved

    for indices, inputs in _one_ahead(copied()):
        current = torch.cuda.current_stream(device)
        current.wait_stream(copies)
        inputs.record_stream(current)
        yield indices, inputs


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made by another thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item
