"""Reproducible training samples, their order in an epoch, and batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from swahr.data.appearance import Image
from swahr.data.source import Source
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, Batch, LabelledImage, Sample

Key = tuple[int, int]
"""Key of a training sample: (epoch, index)."""
Appearance = Callable[[Image, np.random.Generator], Image]
"""Changes the appearance of an augmented image, but no positions in it."""


@runtime_checkable
class Augmentation(Protocol):
    """Makes a training sample of an image (e.g. `RandomAffine`); all samples have the same size."""

    def __call__(self, labelled: LabelledImage, *, skeleton: Skeleton, rng: np.random.Generator) -> Sample:
        """The sample, by random numbers of ``rng`` only."""


class PoseDataset(Dataset[Sample]):
    """The augmented images of a source (e.g. a `CocoSource`).

    Each sample has its own random generator, seeded by (seed, epoch, index). Samples therefore depend neither
    on the number of workers nor on earlier samples, and a resumed run equals an uninterrupted one.

    ``appearance`` (e.g. a `RandomAppearance`) is applied after the ``augmentation``.
    """

    def __init__(
        self, source: Source, augmentation: Augmentation, seed: int, appearance: Appearance | None = None
    ) -> None:
        self.source, self.augmentation, self.seed = source, augmentation, seed
        self.appearance = appearance

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of ``key`` = (epoch, index); unbounded sources have new images in each epoch."""
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        position = index + epoch * len(self.source) if self.source.unbounded else index
        sample = self.augmentation(self.source[position], skeleton=self.source.skeleton, rng=rng)
        if self.appearance is None:
            return sample
        return replace(sample, image=self.appearance(sample.image, rng))


class LabelledImages(Dataset[LabelledImage]):
    """The unmodified images of a source, for validation."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> LabelledImage:
        return self.source[index]


class EpochSampler(Sampler[Key]):
    """This process's share of the (epoch, index) keys of an epoch, shuffled by seed and epoch.

    Lightning calls `set_epoch` before each epoch, also when a run is resumed. All processes get the same
    number of samples: up to ``world_size - 1`` samples, different ones in each epoch, are left out.

    ``done`` returns the number of samples to skip; it is nonzero if a run resumes within an epoch.

    Raises:
        ValueError: there are fewer samples than processes.
    """

    def __init__(
        self, length: int, seed: int, rank: int = 0, world_size: int = 1, done: Callable[[], int] = lambda: 0
    ) -> None:
        if length < world_size:
            raise ValueError(
                f"expected at least one training image per process, got {length} for {world_size} processes; "
                "use fewer devices"
            )
        self.length, self.seed, self.epoch = length, seed, 0
        self.rank, self.world_size, self.done = rank, world_size, done

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of samples of this process in an epoch."""
        return self.length // self.world_size

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length).tolist()
        share = order[self.rank : len(self) * self.world_size : self.world_size]
        for index in share[self.done() :]:
            yield epoch, index


class EpochLoader(DataLoader[Sample]):
    """A loader that starts its workers only when the first batch is requested.

    Lightning creates the iterator before it restores the epoch of a resumed run; PyTorch's workers would
    immediately start to load the wrong epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override] # collate makes batches of samples
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Empty: Lightning stores the position. Defining this method marks the loader as resumable."""
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        """Nothing to restore."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size, and pad their people to the same number with `ABSENT` keypoints."""
    images = np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2)
    people = max(len(sample.annotations) for sample in samples)
    num_keypoints = samples[0].annotations.keypoints.shape[1]
    keypoints = np.zeros((len(samples), people, num_keypoints, 2), dtype=np.float32)
    visibility = np.full((len(samples), people, num_keypoints), ABSENT, dtype=np.int64)
    for row, sample in enumerate(samples):
        keypoints[row, : len(sample.annotations)] = sample.annotations.keypoints
        visibility[row, : len(sample.annotations)] = sample.annotations.visibility
    conditions = [sample.condition for sample in samples if sample.condition is not None]
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        keypoints=torch.from_numpy(keypoints),
        visibility=torch.from_numpy(visibility),
        valid=torch.from_numpy(np.stack([sample.valid for sample in samples])),
        image_ids=tuple(sample.image_id for sample in samples),
        input_from_image=tuple(sample.input_from_image for sample in samples),
        condition=None if not conditions else torch.from_numpy(np.stack(conditions)).float(),
    )
