"""The loaders that Lightning's Trainer asks for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import cv2
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Subset

from swahr.data.dataset import EpochLoader, EpochSampler, LabelledImages, PoseDataset, collate
from swahr.data.source import Source
from swahr.data.transforms import RandomAffine
from swahr.skeleton import Skeleton
from swahr.structures import Batch, LabelledImage


class PoseDataModule(LightningDataModule):
    """Training batches and validation images.

    Training: augmented samples, shuffled, as `Batch`; the last incomplete batch of an epoch is dropped unless
    it is the only one. Validation: images as they are, in order, as lists of `LabelledImage` (the predictor
    resizes them). Both share the images out among processes, so the Trainer needs
    ``use_distributed_sampler=False``.

    Args:
        train: images to learn from.
        val: images to evaluate on.
        augmentation: of training images.
        batch_size: training samples per batch and process.
        val_batch_size: images per validation list.
        workers: loader processes for each of the two; 0 loads in the main process.
        seed: of the order and the augmentation.

    Raises:
        ValueError: the two sources have different keypoints.
    """

    def __init__(
        self,
        train: Source,
        val: Source,
        augmentation: RandomAffine,
        batch_size: int,
        val_batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        if train.skeleton.keypoints != val.skeleton.keypoints:
            raise ValueError(
                f"expected the same keypoints in training and validation, got "
                f"{list(train.skeleton.keypoints)} and {list(val.skeleton.keypoints)}; use one skeleton"
            )
        self.train = train
        self.val = val
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.workers = workers
        self.seed = seed

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of both sources."""
        return self.train.skeleton

    def train_dataloader(self) -> EpochLoader:
        """Augmented batches; another order and other augmentations in every epoch."""
        dataset = PoseDataset(self.train, self.augmentation, self.seed)
        sampler = EpochSampler(len(dataset), self.seed, *self._place(), done=self._samples_done)
        return EpochLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= self.batch_size,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
        )

    def val_dataloader(self) -> DataLoader[LabelledImage]:
        """Lists of unchanged images, in the source's order.

        Raises:
            ValueError: there are fewer images than processes.
        """
        rank, world_size = self._place()
        if len(self.val) < world_size:
            raise ValueError(
                f"expected at least one validation image per process, got {len(self.val)} for {world_size} "
                "processes; use fewer devices"
            )
        return validation_loader(
            self.val,
            batch_size=self.val_batch_size,
            workers=self.workers,
            indices=range(rank, len(self.val), world_size),
        )

    def transfer_batch_to_device(
        self, batch: Batch | list[LabelledImage], device: torch.device, dataloader_idx: int
    ) -> Batch | list[LabelledImage]:
        """Move training batches; validation images stay on the CPU until they are warped."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def state_dict(self) -> dict[str, int]:
        """How an epoch is shared out, for checkpoints."""
        return {"processes": self._place()[1], "batch_size": self.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Warn if the rest of an epoch is not what it was when the run stopped."""
        if state_dict != (now := self.state_dict()):
            warnings.warn(
                f"the run was stopped with {state_dict} and goes on with {now}: in an epoch that has begun, "
                "some images may come twice and others not at all; the epochs after it are not affected",
                stacklevel=2,
            )

    def _place(self) -> tuple[int, int]:
        """This process's rank, and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _samples_done(self) -> int:
        """What this process has had of the epoch: not 0 only where a run resumes within an epoch."""
        if self.trainer is None:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready) * self.batch_size


def validation_loader(
    source: Source, *, batch_size: int, workers: int, indices: Sequence[int] | None = None
) -> DataLoader[LabelledImage]:
    """Lists of a source's unchanged images, in its order.

    Args:
        source: the images.
        batch_size: images per list.
        workers: loader processes; 0 loads in this one.
        indices: these images only; by default all.
    """
    return DataLoader(
        Subset(LabelledImages(source), range(len(source)) if indices is None else indices),
        batch_size=batch_size,
        shuffle=False,
        collate_fn=list,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=start_worker,
    )


def start_worker(_: int) -> None:
    """Keep OpenCV to one thread: workers are the parallelism, and its threads do not survive a fork.

    Workers also give way to the training process: on a machine with few cores, taking one of its threads off
    a core stalls all the others at the end of every operation.
    """
    cv2.setNumThreads(0)
    os.nice(10)
