"""The loaders: reproducible whatever the workers, exact on resuming, clear about damaged files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from swahr.data import CocoSource, RandomAffine, Source
from swahr.data.datamodule import PoseDataModule, start_worker
from swahr.skeleton import COCO
from swahr.structures import Batch, LabelledImage


@pytest.fixture(autouse=True)
def _opencv_threads() -> Any:
    """Worker processes inherit this one's; it must not change here."""
    before = cv2.getNumThreads()
    yield
    assert cv2.getNumThreads() == before


@pytest.fixture
def make_module(numbered_source: Any) -> Callable[..., PoseDataModule]:
    def make(workers: int = 0, source: Source | None = None, batch_size: int = 3) -> PoseDataModule:
        return PoseDataModule(
            train=source or numbered_source(10),
            val=source or numbered_source(7),
            augmentation=RandomAffine(input_size=16),
            batch_size=batch_size,
            val_batch_size=4,
            workers=workers,
            seed=5,
        )

    return make


def test_batches_do_not_depend_on_the_workers(make_module: Callable[..., PoseDataModule]) -> None:
    batches = [list(make_module(workers).train_dataloader()) for workers in (0, 2)]
    assert len(batches[0]) == len(batches[1]) == 3  # the incomplete fourth is dropped
    for a, b in zip(*batches, strict=True):
        assert a.image_ids == b.image_ids
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.keypoints, b.keypoints)


def test_incomplete_batch_is_kept_when_it_is_the_only_one(make_module: Callable[..., PoseDataModule]) -> None:
    assert [len(batch) for batch in make_module(batch_size=20).train_dataloader()] == [10]


def test_validation_images_are_unchanged_and_in_order(make_module: Callable[..., PoseDataModule]) -> None:
    module = make_module()
    lists = list(module.val_dataloader())
    assert [[labelled.image_id for labelled in images] for images in lists] == [[0, 1, 2, 3], [4, 5, 6]]
    assert lists[0][0].image.shape == (40, 50, 3)


def test_processes_share_the_validation_images(make_module: Callable[..., PoseDataModule]) -> None:
    module, shares = make_module(), []
    for rank in range(3):
        module.trainer = SimpleNamespace(global_rank=rank, world_size=3)
        shares.append([labelled.image_id for images in module.val_dataloader() for labelled in images])
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    module.trainer = SimpleNamespace(global_rank=0, world_size=8)
    with pytest.raises(ValueError, match=r"one validation image per process, got 7 for 8"):
        module.val_dataloader()


def test_sources_of_different_skeletons(numbered_source: Any) -> None:
    class CocoPeople(numbered_source):  # type: ignore[misc] # the base is a fixture
        skeleton = COCO

    with pytest.raises(ValueError, match=r"same skeleton in training and validation.*set data.skeleton"):
        PoseDataModule(numbered_source(3), CocoPeople(3), RandomAffine(16), 1, 1, 0, 0)


def test_sources_whose_limbs_differ(numbered_source: Any) -> None:
    class OtherLimbs(numbered_source):  # type: ignore[misc] # the base is a fixture
        skeleton = dataclasses.replace(numbered_source.skeleton, limbs=(("head", "left_hand"),))

    with pytest.raises(
        ValueError, match=r"they differ in limbs: training has \(\), validation \(\('head', 'left"
    ):
        PoseDataModule(numbered_source(3), OtherLimbs(3), RandomAffine(16), 1, 1, 0, 0)


def test_damaged_image_in_a_worker_is_named(
    content: dict[str, Any], write_coco: Callable[..., tuple[Path, Path]], make_module: Any
) -> None:
    path, images = write_coco(content)
    for image in images.rglob("*.png"):
        image.write_bytes(image.read_bytes()[:30])
    loader = make_module(workers=1, source=CocoSource(path, images)).train_dataloader()
    with pytest.raises(ValueError, match=r"\.png: expected a whole image.*fetch it again"):
        next(iter(loader))


class _Recorder(LightningModule):
    """Writes down which images it is given, and fails at a chosen step."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.fail_at = fail_at
        self.seen: list[tuple[int, tuple[int, ...], float]] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        if self.global_step == self.fail_at:
            raise KeyError("interrupted")
        self.seen.append((self.current_epoch, batch.image_ids, float(batch.images.float().mean())))
        return self.weight.square()

    def validation_step(self, images: list[LabelledImage], _: int) -> None:
        self.validated += [labelled.image_id for labelled in images]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        _ = self.trainer.estimated_stepping_batches  # starts the loaders early, as schedules do
        return torch.optim.SGD(self.parameters(), lr=0.1)


class _SaveOnException(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        trainer.save_checkpoint(self.path)


def _fit(module: _Recorder, data: PoseDataModule, folder: Path, ckpt: Path | None = None) -> list[Any]:
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[_SaveOnException(folder / "interrupted.ckpt")],
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=False if ckpt else None)
    return module.seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fail_at", [1, 3, 7])  # three batches an epoch: within, between and within
def test_resumed_run_sees_what_an_uninterrupted_one_sees(
    make_module: Callable[..., PoseDataModule], tmp_path: Path, workers: int, fail_at: int
) -> None:
    recorder = _Recorder()
    whole = _fit(recorder, make_module(0), tmp_path)
    assert recorder.validated == [*range(7)] * 4
    assert [epoch for epoch, _, _ in whole] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len({ids for _, ids, _ in whole}) == 12
    broken = _Recorder(fail_at)
    with pytest.raises(KeyError, match="interrupted"):
        _fit(broken, make_module(workers), tmp_path)
    resumed = _fit(_Recorder(), make_module(workers), tmp_path, tmp_path / "interrupted.ckpt")
    assert broken.seen + resumed == whole


def test_resuming_with_another_batch_size_warns(make_module: Callable[..., PoseDataModule]) -> None:
    stopped = make_module().state_dict()
    make_module().load_state_dict(stopped)
    with pytest.warns(UserWarning, match="some images may be repeated"):
        make_module(batch_size=2).load_state_dict(stopped)


def test_shared_memory_that_is_too_small_is_refused_before_workers_wait_for_it(
    make_module: Callable[..., PoseDataModule], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batch = 3 * 16 * 16 * (3 + 1)  # images and valid
    free = SimpleNamespace(free=3 * 5 * batch - 1)
    monkeypatch.setattr("swahr.data.datamodule.shutil.disk_usage", lambda _: free)
    monkeypatch.setattr("swahr.data.datamodule._SHARED_MEMORY", tmp_path)
    with pytest.raises(
        OSError, match=r"free shared memory for batches of 3 x 2 workers.*--shm-size.*workers=0"
    ):
        make_module(2).try_first_images(processes=3)
    make_module(0).try_first_images(processes=3)
    free.free += 1
    make_module(2).try_first_images(processes=3)
    free.free = 0
    monkeypatch.setattr("swahr.data.datamodule._SHARED_MEMORY", tmp_path / "absent")
    make_module(2).try_first_images()


def test_workers_start_where_priorities_cannot_be_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = cv2.getNumThreads()
    monkeypatch.delattr("os.nice")
    start_worker(0)
    cv2.setNumThreads(threads)
