"""Data loading: the rate of one worker, beside the rate of training on one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig

from benchmarks.measure import Case
from benchmarks.training import TrainingStep
from swahr.build_data import build_source
from swahr.data import CocoSource, RandomAffine, Source
from swahr.data.datamodule import PoseDataModule
from swahr.nodes import instantiate
from swahr.structures import Batch
from swahr.synthetic import SyntheticSource, render_dataset

Step = Callable[[Batch], None]
_PHOTOGRAPH = (480, 640)  # (h, w), COCO's usual size


def loader_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """An epoch of JPEG files, and one of crowds that are rendered on demand."""
    side, count = config.train_size, config.loader_images
    train = TrainingStep(config, config.model, device)

    def step(batch: Batch) -> None:
        train(batch.to(device))

    with tempfile.TemporaryDirectory() as folder:
        crowds = SyntheticSource(size=count, seed=config.seed, image_size=_PHOTOGRAPH, people=(1, 12))
        files = CocoSource(render_dataset(crowds, folder), Path(folder, "images"))
        yield _case(
            f"JPEG files of {_PHOTOGRAPH[0]}x{_PHOTOGRAPH[1]}", files, RandomAffine(side), config, step
        )
    config = config.copy()
    config.data.module.train.merge_with({"size": count, "image_size": [side, side]})
    config.data.module.augmentation.input_size = side
    rendered = build_source(config.data.module.train, config.data.skeleton)
    yield _case("rendered crowds", rendered, instantiate(config.data.module.augmentation), config, step)


def _case(name: str, source: Source, augmentation: RandomAffine, config: DictConfig, step: Step) -> Case:
    """An epoch from one worker, the same epoch in this process, training, and training while loading."""

    def module(workers: int) -> PoseDataModule:
        return PoseDataModule(
            train=source,
            val=source,
            augmentation=augmentation,
            batch_size=config.train_images,
            val_batch_size=1,
            workers=workers,
            seed=config.seed,
        )

    one_worker, here = (module(workers).train_dataloader() for workers in (1, 0))
    batches = list(here)
    return Case(
        section="loader",
        name=f"{name}, to {config.train_size}x{config.train_size}",
        people=max(batch.keypoints.shape[1] for batch in batches),
        variants={
            "ours": lambda: list(one_worker),
            "plain": lambda: list(here),
            "training": lambda: _train(batches, step),
            "training while loading": lambda: _train(one_worker, step),
        },
        compare=_compare_batches,
        work={"images": sum(map(len, batches))},
    )


def _train(batches: Iterable[Batch], step: Step) -> None:
    """Train on one thread, so that a core is left to the worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in batches:
            step(batch)
    finally:
        torch.set_num_threads(threads)


def _compare_batches(ours: list[Batch], plain: list[Batch]) -> None:
    for found, expected in zip(ours, plain, strict=True):
        for name in ("images", "keypoints", "visibility", "valid"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), f"{name} differ"
