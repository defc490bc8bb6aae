"""The command line in this process, and a network that was trained by it once."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from swahr.cli.main import main
from swahr.skeleton import COCO, Skeleton
from swahr.synthetic import SyntheticSource, render_dataset

ROOT = Path(__file__).resolve().parents[2]
NINE_KEYPOINTS = (
    "nose", "left_shoulder", "right_shoulder", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_ankle", "right_ankle",
)  # fmt: skip
SMALL = (  # what experiment=smoke sets, for data of any kind
    "aggregate.input_size=64", "grouping.peaks.max_people=5", "trainer.max_epochs=1",
    "trainer.accelerator=cpu", "training.callbacks.pictures.count=1",
    "data.module.augmentation.input_size=64", "data.module.batch_size=2", "data.module.workers=0",
)  # fmt: skip


PERSON = (  # a single-person network, for data of any kind
    "experiment=person", "data.module.augmentation.input_size=[64,32]", "data.module.batch_size=2",
    "data.module.workers=0", "aggregate.input_size=64", "trainer.max_epochs=1", "trainer.accelerator=cpu",
    "training.callbacks.pictures=null",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """What it reported; stdout must hold one JSON object and nothing else."""
        assert self.code == 0, self.stderr
        assert self.stdout.count("\n") == 1
        return json.loads(self.stdout)

    @property
    def error(self) -> str:
        """The message of a command that failed as commands should."""
        assert self.code == 1
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        assert "Error executing job" not in self.stderr
        _, marker, message = self.stderr.partition("error: ")
        assert marker, self.stderr
        return message


def run_swahr(*arguments: Any) -> Outcome:
    """``swahr <arguments>``, in this process."""
    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    before = sys.argv, root.handlers[:], root.level
    sys.argv = ["swahr", *map(str, arguments)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        for handler in root.handlers:
            if handler not in before[1]:
                handler.close()  # Hydra's log file
        sys.argv, root.handlers[:], root.level = before
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a command writes to its default folder must not end up in the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    torch.set_num_threads(1)  # quicker for maps this small


@pytest.fixture(scope="session")
def swahr():
    return run_swahr


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    return SMALL


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What `swahr train experiment=smoke` reported."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return run_swahr("train", "experiment=smoke", "grouping.peaks.threshold=-1", f"output={folder}")


@pytest.fixture(scope="session")
def checkpoint(trained: Outcome) -> Path:
    return Path(trained.result["best"])


@pytest.fixture(scope="session")
def person_settings() -> tuple[str, ...]:
    return PERSON


@pytest.fixture(scope="session")
def person(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the training of a single-person network for a moment reported."""
    crowds = ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")
    folder = tmp_path_factory.mktemp("person") / "run"
    return run_swahr("train", *PERSON, *crowds, f"output={folder}").result


def write_dataset(folder: Path, skeleton: Skeleton, count: int = 2) -> Path:
    """Rendered crowds in the layout of ``data=custom``."""
    source = SyntheticSource(size=count, seed=3, image_size=(64, 64), people=(1, 2), skeleton=skeleton)
    content = render_dataset(source, folder).read_text()
    for name in ("train.json", "val.json"):
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def coco_dataset(tmp_path: Path) -> Path:
    """A small data set to damage."""
    return write_dataset(tmp_path / "data", COCO)


@pytest.fixture(scope="session")
def nine_keypoint_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People of a skeleton that only their annotation file describes."""
    skeleton = Skeleton.from_dict(
        {"name": "nine", "keypoints": NINE_KEYPOINTS, "limbs": [("nose", "left_hip")]}
    )
    return write_dataset(tmp_path_factory.mktemp("nine"), skeleton)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images of one size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        image = SyntheticSource(size=1, seed=i, image_size=(64, 64))[0].image
        assert cv2.imwrite(str(folder / f"{i}.png"), image[..., ::-1])
    return folder


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    return start_swahr


def start_swahr(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """``swahr <arguments>`` in another process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "swahr.cli.main", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell's background jobs ignore Ctrl-C, which processes inherit, and tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=cwd, env=environment, text=True, **pipes)
    finally:
        signal.signal(signal.SIGINT, before)
