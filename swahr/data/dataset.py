"""From sources to batches: reproducible samples, epochs and padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from swahr.data.source import Source
from swahr.data.transforms import RandomAffine
from swahr.structures import ABSENT, Batch, LabelledImage, Sample

Key = tuple[int, int]
"""What a training sample is asked by: (epoch, index)."""


class PoseDataset(Dataset[Sample]):
    """Augmented training samples.

    Each sample has a random stream of its own, seeded by (seed, epoch, index): samples depend neither on the
    number of workers nor on what was drawn before, so that a resumed run continues as if never stopped.
    """

    def __init__(self, source: Source, augmentation: RandomAffine, seed: int) -> None:
        self.source = source
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        """The number of samples of an epoch."""
        return len(self.source)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of ``key`` = (epoch, index). Unbounded sources give fresh images in each epoch."""
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        position = index + epoch * len(self.source) if self.source.unbounded else index
        return self.augmentation(self.source[position], skeleton=self.source.skeleton, rng=rng)


class LabelledImages(Dataset[LabelledImage]):
    """The images of a source as they are, for validation."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        """The number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> LabelledImage:
        """The image at ``index``."""
        return self.source[index]


class EpochSampler(Sampler[Key]):
    """The (epoch, index) keys of one epoch, shuffled by seed and epoch, or this process's share of them.

    Lightning calls `set_epoch` before each epoch, also when a run is resumed. Every process gets the same
    number of samples: up to ``world_size - 1`` are left out, others in each epoch.

    Args:
        length: of the dataset.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
        done: says how many samples of the epoch this process has had already (a run resumed in its middle).

    Raises:
        ValueError: there are fewer samples than processes.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        done: Callable[[], int] = lambda: 0,
    ) -> None:
        if length < world_size:
            raise ValueError(
                f"expected at least one training image per process, got {length} for {world_size} processes; "
                f"use fewer devices"
            )
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.done = done
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of samples of this process in a whole epoch."""
        return self.length // self.world_size

    def __iter__(self) -> Iterator[Key]:
        """Yield the keys that are left of the epoch."""
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length).tolist()
        share = order[self.rank : len(self) * self.world_size : self.world_size]
        for index in share[self.done() :]:
            yield epoch, index


class EpochLoader(DataLoader[Sample]):
    """A loader that starts when its first batch is asked for.

    Lightning makes the iterator before it has restored the epoch of a resumed run, and PyTorch's workers
    would start on the first epoch's images at once.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override] # collate makes batches of samples
        """Yield the batches that are left of the epoch."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: where to resume is in Lightning's own counts. Having it tells Lightning that we can."""
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        """Nothing to restore."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size; people are padded to the largest count with absent ones."""
    images = np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2)
    people = max(len(sample.annotations) for sample in samples)
    num_keypoints = samples[0].annotations.keypoints.shape[1]
    keypoints = np.zeros((len(samples), people, num_keypoints, 2), dtype=np.float32)
    visibility = np.full((len(samples), people, num_keypoints), ABSENT, dtype=np.int64)
    for row, sample in enumerate(samples):
        keypoints[row, : len(sample.annotations)] = sample.annotations.keypoints
        visibility[row, : len(sample.annotations)] = sample.annotations.visibility
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        keypoints=torch.from_numpy(keypoints),
        visibility=torch.from_numpy(visibility),
        valid=torch.from_numpy(np.stack([sample.valid for sample in samples])),
        image_ids=tuple(sample.image_id for sample in samples),
        input_from_image=tuple(sample.input_from_image for sample in samples),
    )
