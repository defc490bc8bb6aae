"""What validation needs is tried before the first step; what runs beside training cannot end it."""

import logging
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from swahr.rehearsal import rehearsed
from swahr.runs import drawings
from swahr.runs.callbacks import ExportBest, SaveOnInterrupt, find_callback
from swahr.runs.files import WholeCheckpoints
from swahr.synthetic import SyntheticSource


def fit(run: Any, ckpt: Path | None = None) -> Any:
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt, weights_only=True)
    return run


def fail(*arguments: Any, **named: Any) -> Any:
    raise KeyError("broken")


def never(*arguments: Any) -> Any:
    raise AssertionError("a step was taken")


def test_annotations_that_the_protocol_cannot_use(make_run: Any, monkeypatch: Any, tmp_path: Path) -> None:
    whole = SyntheticSource.ground_truth

    def without_index(source: Any) -> Any:
        truth = whole(source)
        del truth["images"][1]["crowdIndex"]
        return truth

    monkeypatch.setattr(SyntheticSource, "ground_truth", without_index)
    with pytest.raises(ValueError, match=r"evaluation of the validation annotations failed.*crowdIndex"):
        make_run(tmp_path / "run", "evaluation=crowdpose")


@pytest.mark.parametrize(("part", "index"), [("train", 0), ("val", 0)])
def test_first_images_that_cannot_be_read(
    make_run: Any, monkeypatch: Any, tmp_path: Path, part: str, index: int
) -> None:
    read = SyntheticSource.__getitem__
    length = {"train": 4, "val": 2}[part]

    def damaged(source: Any, i: int) -> Any:
        if len(source) == length:
            raise ValueError(f"{part}/{i}.jpg: damaged")
        return read(source, i)

    monkeypatch.setattr(SyntheticSource, "__getitem__", damaged)
    with pytest.raises(
        ValueError, match=rf"reading the first images failed.*first step: {part}/{index}\.jpg"
    ):
        make_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("module.pipeline", "finding people in the first validation images"),
        ("module.evaluate", "evaluation of the first validation images"),
        ("prediction_page", "the page of predictions"),
        ("draw_curves", "the drawing of curves"),
    ],
)
def test_parts_are_tried_before_the_first_step(
    make_run: Any, monkeypatch: Any, tmp_path: Path, name: str, part: str
) -> None:
    run = make_run(tmp_path)
    owner, _, attribute = name.rpartition(".")
    monkeypatch.setattr(run.module if owner else drawings, attribute, fail)
    monkeypatch.setattr(run.module, "training_step", never)
    with pytest.raises(
        ValueError, match=rf"{part} failed when tried before the first step: KeyError\('broken'\)"
    ):
        fit(run)


def test_other_errors_pass_when_nothing_is_rehearsed() -> None:
    with pytest.raises(KeyError, match="broken"), rehearsed("a part", on=False):
        fail()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (drawings, "write_image"),
        (drawings, "draw_curves"),
        (CSVLogger, "save"),
        (TensorBoardLogger, "log_metrics"),
        (TensorBoardLogger, "finalize"),
    ],
)
def test_drawings_and_logs_that_fail_later_do_not_end_a_run(
    make_run: Any, monkeypatch: Any, tmp_path: Path, caplog: Any, owner: Any, name: str
) -> None:
    run = make_run(tmp_path, "trainer.num_sanity_val_steps=0", "trainer.log_every_n_steps=1")

    def no_space(*arguments: Any, **named: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, name, no_space)
    fit(run)
    assert (tmp_path / "last.ckpt").is_file()
    assert "No space left on device" in caplog.text


def test_a_run_shorter_than_the_logging_interval_and_without_validation_ends_well(
    make_run: Any, tmp_path: Path, caplog: Any
) -> None:
    fit(
        make_run(
            tmp_path, "trainer.limit_val_batches=0", "training.callbacks.learning_rate.logging_interval=epoch"
        )
    )
    assert (tmp_path / "last.ckpt").is_file()
    assert not list(tmp_path.glob("*.png"))


def test_curves_are_drawn_from_one_point(make_run: Any, tmp_path: Path) -> None:
    fit(make_run(tmp_path, "trainer.log_every_n_steps=2"))
    assert {path.name for path in tmp_path.glob("*.png")} == {"loss.png", "ap.png"}


@pytest.mark.parametrize("nothing", [-1.0, float("nan")])
def test_an_ap_of_nobody_is_never_the_best(
    make_run: Any, tmp_path: Path, caplog: Any, nothing: float
) -> None:
    run = make_run(tmp_path, "trainer.max_epochs=4", "trainer.num_sanity_val_steps=0")
    measured = iter([nothing, nothing, 0.0, nothing])
    saved = []

    def evaluate(_: Any) -> dict[str, float]:
        saved.append((tmp_path / "best.safetensors").exists())
        return {"AP": next(measured)}

    run.module.evaluate = evaluate
    fit(run)
    assert saved == [False, False, False, True]
    assert find_callback(run.trainer, ExportBest).best == 0.0
    assert caplog.text.count("no annotated person counts") == 1


def test_a_failed_validation_keeps_the_epoch(make_run: Any, tmp_path: Path) -> None:
    fit(make_run(tmp_path / "whole", "trainer.max_epochs=2"))
    run = make_run(tmp_path / "failed", "trainer.max_epochs=2", "trainer.num_sanity_val_steps=0")
    run.module.evaluate = fail
    with pytest.raises(KeyError, match="broken"):
        fit(run)
    fit(make_run(tmp_path / "resumed", "trainer.max_epochs=2"), tmp_path / "failed" / "interrupted.ckpt")
    whole, resumed = (torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("whole", "resumed"))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, resumed[key][name]) for name, value in whole[key].items())


@contextmanager
def full_disk(most: int = 1000) -> Iterator[None]:
    """No file may grow beyond ``most`` bytes."""
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"weight": torch.zeros(9)}, path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(OSError, match=r"last\.ckpt: cannot be written .*unchanged; free space"):
        WholeCheckpoints().save_checkpoint({"weight": torch.zeros(9999)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_full_disks_at_the_end_of_an_epoch_and_at_an_interrupt(
    make_run: Any, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    fit(make_run(tmp_path / "first", "trainer.max_epochs=1"))
    last = tmp_path / "first" / "last.ckpt"
    run = make_run(tmp_path / "first", "trainer.max_epochs=2", "trainer.limit_val_batches=0")
    before = last.read_bytes()
    with full_disk(100_000), pytest.raises(OSError, match=r"last\.ckpt: cannot be written"):
        fit(run, last)
    assert last.read_bytes() == before
    callback = find_callback(run.trainer, SaveOnInterrupt)
    with full_disk():
        callback.on_exception(run.trainer, run.module, KeyboardInterrupt())
    assert "interrupted.ckpt: cannot be written" in caplog.text
    assert "resume with" not in caplog.text


def test_a_run_writes_checkpoints_beside_the_previous_one(make_run: Any, tmp_path: Path) -> None:
    assert isinstance(make_run(tmp_path).trainer.strategy.checkpoint_io, WholeCheckpoints)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.max_epochs=0", r"trainer\.max_epochs: expected more than 0, got 0"),
        ("trainer.max_steps=0", r"trainer\.max_steps: expected more than 0"),
        ("trainer.limit_train_batches=0", r"trainer\.limit_train_batches: expected more than 0"),
        ("trainer.accumulate_grad_batches=0", r"trainer\.accumulate_grad_batches: expected more than 0"),
        ("trainer.check_val_every_n_epoch=0", r"trainer\.check_val_every_n_epoch: expected more than 0"),
        ("trainer.max_epochs=null", r"trainer\.max_epochs: expected a number of epochs.*got None"),
        ("trainer.devices=0", r"trainer\.devices=0: .*This machine has \d+ CUDA devices"),
        ("trainer.devices=a", r"trainer\.devices=a: "),
        ("trainer.accelerator=mps", r"trainer\.accelerator=mps.*accelerator=auto"),
        ("trainer.accelerator=abacus", r"abacus.*Available names are"),
        ("data.module.train.size=0", r"data\.module\.train: expected at least 1 images, got 0"),
        ("data.module.val.size=0", r"data\.module\.val: expected at least 1 images, got 0"),
        ("data.module.batch_size=0", r"data\.module\.batch_size: expected at least 1 as its value, got 0"),
        ("data.module.val_batch_size=0", r"data\.module\.val_batch_size: expected at least 1"),
        ("data.module.workers=-1", r"data\.module\.workers: expected at least 0 as its value, got -1"),
    ],
)  # fmt: skip
def test_settings_that_train_nothing(make_run: Any, tmp_path: Path, setting: str, message: str) -> None:
    constant = ("training.optimiser.decay=constant", "training.optimiser.epochs=1")
    with pytest.raises(ValueError, match=message):
        make_run(tmp_path / "run", *constant, setting)


def test_a_batch_larger_than_the_set_does_not_raise_the_learning_rate(
    make_run: Any, tmp_path: Path, caplog: Any
) -> None:
    run = make_run(tmp_path, "data.module.batch_size=100", "trainer.accumulate_grad_batches=3")
    assert "batch_size=100, but the only batch has 4 images" in caplog.text
    fit(run)
    assert run.trainer.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(2e-3 * 4 / 32)
