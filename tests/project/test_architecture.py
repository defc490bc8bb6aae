"""The paths in docs/architecture.md are those that a keypoint and an image take."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swahr import Predictor
from swahr.cli.command import compose_config
from swahr.images import write_image
from swahr.synthetic import SyntheticSource, render_dataset
from swahr.training.build import build_training

LIMITS = {"From annotation to loss": 12, "From an image to `Poses`": 14}
SMALL = (
    "data=custom", "trainer.accelerator=cpu", "data.module.augmentation.input_size=64",
    "data.module.workers=0", "data.module.batch_size=2", "data.module.val_batch_size=2",
)  # fmt: skip


def documented(repository: Path, beginning: str) -> list[str]:
    """The functions of the table after a paragraph that begins so."""
    page = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition(beginning)[2].partition("\n\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| \d+ \| `([\w.]+)` \|", table, flags=re.MULTILINE)


def called(action: Callable[[], Any]) -> list[str]:
    """Functions of swahr in the order in which they are first entered."""
    names: dict[str, None] = {}

    def note(frame: Any, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("swahr."):
            names[f"{module}.{frame.f_code.co_qualname}"] = None

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return list(names)


def check(repository: Path, beginning: str, action: Callable[[], Any]) -> None:
    path = documented(repository, beginning)
    assert 0 < len(path) <= LIMITS[beginning]
    entered = called(action)
    missing = [name for name in path if name not in entered]
    assert missing == []
    assert sorted(path, key=entered.index) == path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    source = SyntheticSource(size=2, seed=3, image_size=(64, 64), people=(1, 2))
    content = render_dataset(source, tmp_path / "data").read_text()
    for name in ("train.json", "val.json"):
        (tmp_path / "data" / name).write_text(content)
    return tmp_path / "data"


def test_the_path_from_annotation_to_loss(repository: Path, dataset: Path, tmp_path: Path) -> None:
    def one_step() -> None:
        config = compose_config("train", [*SMALL, f"data.root={dataset}", f"output={tmp_path}/run"])
        run = build_training(config, tmp_path / "run")
        batch = next(iter(run.data.train_dataloader()))
        run.module.log = run.module.log_dict = lambda *_, **__: None  # there is no Trainer to log to
        run.module.training_step(batch, 0)

    check(repository, "From annotation to loss", one_step)


def test_the_path_from_an_image_to_poses(repository: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    predictor = Predictor.from_checkpoint(
        repository / "tests" / "checkpoint" / "format_1.safetensors",
        overrides=["grouping.peaks.threshold=0.0"],
    )
    file = write_image(
        tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    )
    check(repository, "From an image to `Poses`", lambda: predictor(file))
