"""One part of `experiments/gpu.py`, run as ``python -m gpu_suite.part NAME CONFIG RESULT``.

RESULT is rewritten after every check, so that the checks of a killed part are kept.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from gpu_suite.checks import Check
from gpu_suite.equality import compare_devices
from gpu_suite.marked_tests import run_marked_tests
from gpu_suite.photographs import train_on_photographs
from gpu_suite.short_training import train_shortly
from gpu_suite.speed import measure_compiled, measure_eager

PARTS: dict[str, Callable[[DictConfig, torch.device], Iterator[Check]]] = {
    "tests": run_marked_tests,
    "equality": compare_devices,
    "speed": measure_eager,
    "training": train_shortly,
    "compiled": measure_compiled,
    "photographs": train_on_photographs,
}


def run_part(name: str, config: DictConfig, result: Path) -> None:
    """Run the part ``name`` and write its checks, and the error that stopped it if there was one."""
    checks: list[Check] = []
    error = None
    try:
        for check in PARTS[name](config, torch.device(config.device)):
            checks.append(check)
            _write(result, checks, "the part was stopped")
    except Exception:
        error = traceback.format_exc()
    _write(result, checks, error)


def _write(result: Path, checks: list[Check], error: str | None) -> None:
    content = {"checks": [check.to_dict() for check in checks], "error": error}
    unfinished = result.with_suffix(".partial")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(result)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    loaded = OmegaConf.load(sys.argv[2])
    assert isinstance(loaded, DictConfig)
    run_part(sys.argv[1], loaded, Path(sys.argv[3]))
