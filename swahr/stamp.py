"""The reproducibility stamp that every checkpoint, result file and figure carries."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("torch", "lightning", "numpy", "opencv-python", "faster-coco-eval")


def make_stamp(*, seed: int | None, files: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Say what produced a result: commit, seed, versions, device, and SHA-256 of the files it came from.

    Args:
        seed: the seed of the run, or None where nothing was drawn.
        files: annotation and weight files; their names (not their folders) are recorded.
    """
    return {
        "swahr": version("swahr"),
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "sha256": {Path(file).name: _sha256(Path(file)) for file in files},
    }


def _commit() -> str | None:
    """The commit of the checkout this package is imported from, ``+`` if it was edited; None in a wheel."""
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return None
    commands = (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    try:
        commit, edits = (
            subprocess.run(("git", *c), cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if edits else "")


def _processor() -> str:
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
