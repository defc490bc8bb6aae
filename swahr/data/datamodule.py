"""Loaders of training batches and validation images."""

import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Subset

from swahr.data.dataset import (
    Appearance,
    Augmentation,
    EpochLoader,
    EpochSampler,
    LabelledImages,
    PoseDataset,
    collate,
)
from swahr.data.source import Source
from swahr.skeleton import Skeleton
from swahr.structures import Batch, LabelledImage

_log = logging.getLogger(__name__)

_SHARED_MEMORY = Path("/dev/shm")
"""The folder through which PyTorch's workers pass batches on Linux."""
_PREFETCHED = 2  # batches per worker


class PoseDataModule(LightningDataModule):
    """Training batches and validation images.

    The training loader yields shuffled, augmented samples as `Batch`. It drops an incomplete last batch of an
    epoch unless it is the only one. The validation loader yields lists of unmodified `LabelledImage` in
    order. Both split the images among processes, so the Trainer needs ``use_distributed_sampler=False``.

    Args:
        train: training images, e.g. a `CocoSource` or a `swahr.synthetic.SyntheticSource`.
        val: validation images.
        augmentation: the transform of training images, by default a `RandomAffine`.
        batch_size: training samples per batch and process.
        val_batch_size: images per validation list.
        workers: worker processes per loader; 0 loads in the main process.
        seed: seed of the order and the augmentation.
        appearance: a further change of training images, e.g. a `RandomAppearance`.

    Raises:
        ValueError: the sources have different skeletons or no images, or a number is too small.
    """

    def __init__(
        self,
        train: Source,
        val: Source,
        augmentation: Augmentation,
        batch_size: int,
        val_batch_size: int,
        workers: int,
        seed: int,
        appearance: Appearance | None = None,
    ) -> None:
        super().__init__()
        if train.skeleton != val.skeleton:
            ours, theirs = train.skeleton.to_dict(), val.skeleton.to_dict()
            differing = "; ".join(
                f"{name}: training has {ours[name]}, validation {theirs[name]}"
                for name in ours
                if ours[name] != theirs[name]
            )
            raise ValueError(
                f"expected the same skeleton in training and validation, but they differ in {differing}; "
                "both need the same `categories`, or set data.skeleton"
            )
        _check_sizes({"batch_size": batch_size, "val_batch_size": val_batch_size}, least=1)
        _check_sizes({"train": len(train), "val": len(val)}, least=1)
        _check_sizes({"workers": workers}, least=0)
        self.train, self.val, self.augmentation = train, val, augmentation
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.workers, self.seed = workers, seed
        self.appearance = appearance

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of both sources."""
        return self.train.skeleton

    def try_first_images(self, *, processes: int = 1) -> None:
        """Read and transform the first image of each set, and check that memory holds the batches in flight.

        Args:
            processes: number of processes that train on this machine.

        Raises:
            OSError: shared memory is too small for the workers, which would then wait for ever.
            ValueError: an image cannot be read or transformed.
        """
        sample = self._training_samples()[0, 0]
        self.val[0]
        batch = (sample.image.nbytes + sample.valid.nbytes) * min(self.batch_size, len(self.train))
        needed = batch * processes * (self.workers * _PREFETCHED + 1)
        if self.workers and _SHARED_MEMORY.is_dir():
            free = shutil.disk_usage(_SHARED_MEMORY).free
            if free < needed:
                raise OSError(
                    f"{_SHARED_MEMORY}: expected {needed / 2**20:.0f} MiB of free shared memory for batches "
                    f"of {processes} x {self.workers} workers, got {free / 2**20:.0f}; enlarge it (docker "
                    "run --shm-size=8g), or set data.module.workers=0 or a smaller data.module.batch_size"
                )

    def largest_batch(self, processes: int) -> int:
        """Images per process and batch: fewer than ``batch_size`` if there are not as many."""
        size = min(self.batch_size, max(1, len(self.train) // processes))
        if size < self.batch_size:
            _log.warning("data.module.batch_size=%d, but the only batch has %d images", self.batch_size, size)
        return size

    def train_dataloader(self) -> EpochLoader:
        """The loader of augmented batches; order and augmentation differ in each epoch."""
        dataset = self._training_samples()
        sampler = EpochSampler(len(dataset), self.seed, *self._rank_and_world_size(), done=self._samples_done)
        return EpochLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= self.batch_size,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            **_worker_options(self.workers),
        )

    def _training_samples(self) -> PoseDataset:
        return PoseDataset(self.train, self.augmentation, self.seed, self.appearance)

    def val_dataloader(self) -> DataLoader[LabelledImage]:
        """The loader of lists of unmodified images, in the source's order.

        Raises:
            ValueError: there are fewer images than processes.
        """
        rank, world_size = self._rank_and_world_size()
        if len(self.val) < world_size:
            raise ValueError(
                f"expected at least one validation image per process, got {len(self.val)} for {world_size} "
                "processes; use fewer devices"
            )
        indices = range(rank, len(self.val), world_size)
        return validation_loader(
            self.val, batch_size=self.val_batch_size, workers=self.workers, indices=indices
        )

    def transfer_batch_to_device(
        self, batch: Batch | list[LabelledImage], device: torch.device, dataloader_idx: int
    ) -> Batch | list[LabelledImage]:
        """Move training batches; validation images are warped on the CPU first."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def state_dict(self) -> dict[str, int]:
        """How an epoch is split into batches and processes, for checkpoints."""
        return {"processes": self._rank_and_world_size()[1], "batch_size": self.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Warn if a resumed run splits its current epoch differently."""
        if state_dict != (now := self.state_dict()):
            warnings.warn(
                f"the run was stopped with {state_dict} and is resumed with {now}: in the current epoch some "
                "images may be repeated and others left out; later epochs are not affected",
                stacklevel=2,
            )

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _samples_done(self) -> int:
        """The number of this epoch's samples that the process had before the run was interrupted."""
        if self.trainer is None:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready) * self.batch_size


def validation_loader(
    source: Source, *, batch_size: int, workers: int, indices: Sequence[int] | None = None
) -> DataLoader[LabelledImage]:
    """A loader of lists of a source's unmodified images: all, or those at ``indices``, in order.

    With 0 ``workers``, images are loaded in the current process.
    """
    images = Subset(LabelledImages(source), range(len(source)) if indices is None else indices)
    return DataLoader(images, batch_size=batch_size, collate_fn=list, **_worker_options(workers))


def _check_sizes(values: Mapping[str, int], *, least: int) -> None:
    for name, value in values.items():
        if value < least:
            what = "images" if name in ("train", "val") else "as its value"
            raise ValueError(f"data.module.{name}: expected at least {least} {what}, got {value}; correct it")


def _worker_options(workers: int) -> dict[str, Any]:
    options = {"num_workers": workers, "persistent_workers": workers > 0, "worker_init_fn": start_worker}
    return options | ({"prefetch_factor": _PREFETCHED} if workers else {})


def start_worker(_: int) -> None:
    """Limit OpenCV to one thread and lower the priority of a worker process.

    Workers run in parallel, and OpenCV's threads do not survive a fork. On a machine with few cores, workers
    that preempt one thread of the training process stall all its other threads.
    """
    cv2.setNumThreads(0)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(10)
