"""The test-time pipeline from images to poses, shared by training, evaluation and prediction."""

import traceback
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
_HOPELESS = 16  # so many failures without a success are due to settings or weights, not to images


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
        for outcome in self.outcomes(network, images, device):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def outcomes(
        self, network: Network, images: Iterable[Image | Exception], device: torch.device
    ) -> Iterator[Poses | Exception]:
        """Yield for each image, in order, its poses or the error that prevented them; see `as_found`."""
        done: dict[int, Poses | Exception] = {}
        due = 0
        for i, outcome in self.as_found(network, images, device):
            done[i] = outcome
            while due in done:
                yield done.pop(due)
                due += 1

    def as_found(
        self, network: Network, images: Iterable[Image | Exception], device: torch.device
    ) -> Iterator[tuple[int, Poses | Exception]]:
        """Yield the index of each image, and its poses or the error that prevented them, once they are known.

        Images of one shape make a batch, so that others may be known first. After an error in a batch, its
        images are processed one by one. ``images`` may contain errors in reading, which are passed on.

        Raises:
            Exception: the first 16 images that the network was run on all failed; this is the last error.
        """
        failed: dict[int, Poses | Exception] = {}
        failures, succeeded = 0, False
        for batch in _on_device(self._batches(images, failed), device):
            found = self._found(network, *batch, device)
            errors = [outcome for outcome in found.values() if isinstance(outcome, Exception)]
            failures, succeeded = failures + len(errors), succeeded or len(errors) < len(found)
            if failures >= _HOPELESS and not succeeded:
                raise errors[-1]
            yield from found.items()
            while failed:
                yield failed.popitem()
        yield from failed.items()

    def _found(
        self, network: Network, images: dict[int, Image], inputs: Inputs, device: torch.device
    ) -> dict[int, Poses | Exception]:
        try:
            maps = self.aggregate.merge(network, inputs)
            _check_finite(maps)
            found = self.decode(maps)
            for step in self.steps:
                found = step(list(images.values()), found)
            return dict(zip(images, found, strict=True))
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # which would keep the maps in memory
            if len(images) == 1:
                return dict.fromkeys(images, error)
        outcomes: dict[int, Poses | Exception] = {}
        for i, image in images.items():
            outcomes |= self._found(network, {i: image}, self.aggregate.prepare([image]).to(device), device)
        return outcomes

    def _batches(
        self, images: Iterable[Image | Exception], failed: dict[int, Poses | Exception]
    ) -> Iterator[Waiting]:
        """Full batches, and incomplete ones whose oldest image has waited for too long.

        Errors are added to ``failed``.
        """
        buckets: defaultdict[tuple[tuple[int, int], ...], dict[int, Image]] = defaultdict(dict)
        patience = _WAITING_BATCHES * self.batch_size
        for i, image in enumerate(images):
            if isinstance(image, Exception):
                failed[i] = image
            else:
                try:
                    key = tuple(self.aggregate.input_sizes(image.shape[:2]).values())
                    buckets[key][i] = image
                except Exception as error:
                    failed[i] = error
            for key, bucket in list(buckets.items()):
                if len(bucket) == self.batch_size or i - next(iter(bucket)) >= patience:
                    yield from self._prepared(buckets.pop(key), failed)
        for bucket in buckets.values():
            yield from self._prepared(bucket, failed)

    def _prepared(self, images: dict[int, Image], failed: dict[int, Poses | Exception]) -> Iterator[Waiting]:
        try:
            inputs = self.aggregate.prepare(list(images.values()))
        except Exception as error:
            if len(images) == 1:
                failed.update(dict.fromkeys(images, error))
                return
        else:
            yield images, inputs
            return
        for i, image in images.items():
            yield from self._prepared({i: image}, failed)


def _check_finite(maps: DenseMaps) -> None:
    """Raise ValueError for NaN and infinity in heatmaps or tags; the poses would be wrong or missing."""
    for name in maps.fields.keys() & {"heatmaps", "tags"}:
        if not torch.isfinite(maps.fields[name].sum()):
            raise ValueError(
                f"expected finite {name} from the network, got NaN or infinity; if precision=fp16, choose "
                "bf16 or fp32, otherwise other weights"
            )


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
