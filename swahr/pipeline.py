"""From images to poses: the test-time pipeline that training, evaluation and prediction share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swahr.structures import DenseMaps, NetworkOutput, Poses

Network = Callable[[Tensor], NetworkOutput]
Image = npt.NDArray[np.uint8]


class PosePipeline:
    """Runs a network over images of any sizes, in batches of equal size.

    Args:
        aggregate: makes dense maps of equally sized images (`swahr.aggregate.Aggregator`).
        decode: turns dense maps into poses (`swahr.decode.Decoder`).
        batch_size: images a batch, at most.
    """

    def __init__(
        self,
        *,
        aggregate: Callable[[Network, Sequence[Image], torch.device], DenseMaps],
        decode: Callable[[DenseMaps], list[Poses]],
        batch_size: int = 8,
    ) -> None:
        self.aggregate = aggregate
        self.decode = decode
        self.batch_size = batch_size

    def __call__(self, network: Network, images: Sequence[Image], device: torch.device) -> list[Poses]:
        """Find the people in RGB images ``(H W 3)``; one `Poses` each, in the order given."""
        poses: dict[int, Poses] = {}
        for indices in self._batches(images):
            maps = self.aggregate(network, [images[i] for i in indices], device)
            poses.update(zip(indices, self.decode(maps), strict=True))
        return [poses[i] for i in range(len(images))]

    def _batches(self, images: Sequence[Image]) -> Iterator[list[int]]:
        by_size: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            by_size[image.shape].append(i)
        for indices in by_size.values():
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]
