"""Training in another process, which resumes what was cut off, and what its logs hold."""

from __future__ import annotations

import csv
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ablation_parts.plan import Run, check_same
from swahr.checkpoint import read_ckpt
from swahr.cli.run_results import find_runs
from swahr.files import read_json, write_json

_log = logging.getLogger(__name__)

_CHECKPOINTS = ("last.ckpt", "interrupted.ckpt")
_PARTS = 5  # of a run, in which the shares of the loss are averaged
_NO_TERMS = ("train/loss", "train/tag_separation")
_ADVERSARIAL = ("_labels", "_discriminator", "_adversarial")
"""Endings of what adversarial training logs beside the terms: rates, other losses, and terms below 0."""
_FOREGROUND = "foreground/"


def attempts(run: Run) -> list[Path]:
    """The folders of a run's trainings, each of which resumed an earlier one or began anew."""
    return sorted(run.folder.glob("train_*"), key=lambda folder: int(folder.name.removeprefix("train_")))


def trained(run: Run) -> Path | None:
    """The folder of a complete training."""
    return next((folder for folder in attempts(run) if (folder / "result.json").is_file()), None)


def resumable(run: Run) -> Path | None:
    """The newest checkpoint of an incomplete training."""
    for folder in reversed(attempts(run)):
        if found := [folder / name for name in _CHECKPOINTS if (folder / name).is_file()]:
            return max(found, key=lambda file: file.stat().st_mtime)
    return None


def check_folder(run: Run) -> None:
    """Raise ValueError if the run's folder is that of another configuration."""
    file = run.folder / "plan.json"
    if file.is_file():
        check_same(run, file, read_json(file))


def train(runs: Sequence[Run]) -> dict[str, str]:
    """Train runs at the same time, or go on with them; complete ones are left out.

    Returns:
        The reasons for failures by name of the run; the others are complete then.

    Raises:
        KeyboardInterrupt: Ctrl-C; the trainings have saved their state.
    """
    waiting = [run for run in runs if trained(run) is None]
    started: list[tuple[Run, Path, subprocess.Popen[bytes]]] = []
    failures: dict[str, str] = {}
    try:
        for run in waiting:
            try:
                started.append((run, *_start(run, alone=len(waiting) == 1)))
            except OSError as error:
                failures[run.name] = str(error)
        for _, _, process in started:
            process.wait()
    except BaseException:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until they have saved their states
        for _, _, process in started:
            process.send_signal(signal.SIGINT)
        for _, _, process in started:
            process.wait()
        raise
    return failures | {
        run.name: f"training failed ({_reason(folder, process.returncode)})"
        for run, folder, process in started
        if trained(run) is None
    }


def _start(run: Run, *, alone: bool) -> tuple[Path, subprocess.Popen[bytes]]:
    """The folder and process of a training, in a session of its own, so that Ctrl-C reaches it once.

    Unless it is ``alone``, its messages go to a file.
    """
    _log.info("%s: training", run.name)
    write_json(run.folder / "plan.json", run.recorded)
    checkpoint, earlier = resumable(run), attempts(run)
    number = int(earlier[-1].name.removeprefix("train_")) + 1 if earlier else 1
    folder = run.folder / f"train_{number}"
    command = [sys.executable, "-m", "swahr.cli.main", "train", *run.overrides, f"output={folder}"]
    command += [f"ckpt={checkpoint}"] if checkpoint is not None else []
    lower = ["nice"] if shutil.which("nice") else []
    with nullcontext() if alone else _messages(folder).open("wb") as messages:
        process = subprocess.Popen(
            [*lower, *command], stdout=subprocess.DEVNULL, stderr=messages, start_new_session=True
        )
    return folder, process


def _messages(folder: Path) -> Path:
    """The file with what a training among others printed."""
    return folder.parent / f"messages_of_{folder.name}.txt"


def _reason(folder: Path, code: int) -> str:
    messages = _messages(folder)
    unknown = f"exit code {code}, see {messages if messages.is_file() else 'above'}"
    try:
        return find_runs([folder])[0].failure or unknown
    except (FileNotFoundError, ValueError):  # it ended before there was a run
        return unknown


def steps(folder: Path) -> int:
    """The number of the optimiser's steps in a complete training."""
    return int(read_ckpt(folder / "last.ckpt")["global_step"])


def logs(run: Run) -> list[dict[str, str]]:
    """The rows of ``metrics.csv`` over all attempts; a later one replaces what it trained again."""
    rows: list[dict[str, str]] = []
    for folder in attempts(run):
        file = folder / "metrics.csv"
        own = list(csv.DictReader(file.read_text("utf-8").splitlines())) if file.is_file() else []
        first = min((int(row["step"]) for row in own), default=None)
        rows = [row for row in rows if first is None or int(row["step"]) < first] + own
    return rows


def learning_curve(rows: Sequence[dict[str, str]]) -> list[list[float]]:
    """Steps and validation AP."""
    return [[int(row["step"]), round(float(row["val/AP"]), 5)] for row in rows if row.get("val/AP")]


def loss_shares(rows: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The share of each term in the loss, in consecutive parts of the training.

    ``foreground_<stride>`` is the share of the heatmap term of that stride where the target is positive.
    """
    logged = [row for row in rows if row.get("train/loss")]
    keys = list(logged[0]) if logged else []
    terms = [key for key in keys if key.startswith("train/") and key not in _NO_TERMS]
    terms = [key for key in terms if not key.endswith(_ADVERSARIAL)]
    foregrounds = [key for key in keys if key.startswith(_FOREGROUND)]
    shares = []
    for part in np.array_split(np.arange(len(logged)), min(_PARTS, len(logged)) or 1):
        own = [logged[i] for i in part]
        if own:
            means = {term: float(np.mean([float(row[term]) for row in own])) for term in terms}
            parts = {
                term.removeprefix("train/"): round(mean / sum(means.values()), 5)
                for term, mean in means.items()
            }
            for key in foregrounds:
                values = [float(row[key]) for row in own if row[key]]
                parts[key.replace("/", "_")] = round(float(np.mean(values)), 5) if values else None
            shares.append({"step": int(own[-1]["step"]), **parts})
    return shares
