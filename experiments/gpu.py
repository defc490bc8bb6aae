"""Checks and measures everything that this project claims about GPUs; the command of `make gpu`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from gpu_suite.page import write_page
from gpu_suite.part import PARTS
from gpu_suite.processes import run_parts
from omegaconf import DictConfig

from swahr.cli.command import fresh_folder, report, run_command
from swahr.files import write_json
from swahr.provenance import provenance


def gpu(config: DictConfig) -> dict[str, Any]:
    """Run the parts; write ``gpu.json``, their logs and, except in a dry run, the page.

    Raises:
        ValueError: there is no GPU, or a part is unknown.
    """
    _check(config)
    folder, start, stamp = fresh_folder(config.output), time.monotonic(), provenance(seed=config.seed)
    parts = run_parts(config, folder)
    result = {
        "dry_run": config.dry_run,
        "device": config.device,
        "passed": all(part["status"] == "passed" for part in parts.values()),
        "seconds": time.monotonic() - start,
        "stamp": stamp,
        "parts": parts,
    }
    write_json(folder / "gpu.json", result)
    page = None if config.dry_run or config.page is None else Path(config.page)
    if page is not None:
        write_page(page, result)
    report(
        {
            "output": str(folder),
            "dry_run": config.dry_run,
            "passed": result["passed"],
            "page": page and str(page),
            "parts": {name: part["status"] for name, part in parts.items()},
        }
    )
    return result


def _check(config: DictConfig) -> None:
    if unknown := set(config.parts) - set(PARTS):
        raise ValueError(f"parts={sorted(unknown)}: expected some of {list(PARTS)}")
    if not config.dry_run and not (str(config.device).startswith("cuda") and torch.cuda.is_available()):
        raise ValueError(
            f"expected a GPU, but device={config.device} and PyTorch {torch.__version__} finds "
            f"{torch.cuda.device_count()} CUDA devices; --config-name=gpu_dry_run tries this command on a CPU"
        )


def gpu_or_exit(config: DictConfig) -> None:
    """Run the parts; exit with code 1 if one did not pass."""
    if not gpu(config)["passed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command("gpu", gpu_or_exit)
