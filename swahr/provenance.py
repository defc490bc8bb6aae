"""The provenance stamp of every checkpoint, result file and figure."""

import hashlib
import logging
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import torch

from swahr.data import Source

_log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "lightning", "numpy", "faster-coco-eval")
_COMMIT = "SWAHR_COMMIT"
"""The environment variable that states the commit of a copy without ``.git``, e.g. in a container."""


def provenance(*, seed: int | None, files: Iterable[str | Path] = ()) -> dict[str, Any]:
    """What produced a result: commit, seed, versions, device and the SHA-256 of input files.

    Args:
        seed: the run's seed; None if nothing is random.
        files: annotation and weight files, recorded without their folders; ``name (2)`` is the second file of
            that name.
    """
    threads = torch.get_num_threads()
    cpu = f"{platform.machine()} CPU, {threads} {'thread' if threads == 1 else 'threads'}"
    return {
        "swahr": _version("swahr"),
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES} | {"opencv": cv2.__version__},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "sha256": _hashes(files),
    }


def _hashes(files: Iterable[str | Path]) -> dict[str, str]:
    """SHA-256 by file name; a further file of the same name is numbered."""
    hashes: dict[str, str] = {}
    for path in dict.fromkeys(map(Path, files)):
        number = sum(key.partition(" (")[0] == path.name for key in hashes) + 1
        name = f"{path.name} ({number})" if number > 1 else path.name
        hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def data_stamp(**sources: Source) -> dict[str, Any]:
    """The findings of sources that are read from annotation files, for stamps."""
    found = {name: getattr(source, "findings", None) for name, source in sources.items()}
    return {"data": {name: findings.to_dict() for name, findings in found.items() if findings is not None}}


def log_findings(*sources: Source) -> None:
    """Log what the annotations of sources hold, and what is implausible in them."""
    for source in sources:
        if (findings := getattr(source, "findings", None)) is not None:
            _log.info("%s", findings.summary())
            for text in (*findings.errors, *findings.warnings):
                _log.warning("%s: %s", findings.source, text)


def _version(package: str) -> str | None:
    """The version of an installed package; None in a copy that is used without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, followed by ``+`` if files differ from it; None in an installed wheel."""
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return os.environ.get(_COMMIT)
    command = ("git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
