"""Runs parts one after the other, each in its own process and within its time budget."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

_EXPERIMENTS = Path(__file__).resolve().parents[1]
_LOG_LINES = 30  # kept from the log of a failed part


def run_parts(config: DictConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """Run ``config.parts``; their results by name.

    A result has ``status`` (passed, failed, timed out, not run), ``seconds``, ``budget``, ``checks``,
    ``error`` and, if the part did not pass, the end of its ``log``.

    Args:
        config: as in ``conf/gpu.yaml``.
        folder: the folder of the logs.
    """
    console, start = Console(stderr=True), time.monotonic()
    results: dict[str, dict[str, Any]] = {}
    environment = _environment(dry_run=config.dry_run)
    with TemporaryDirectory() as temporary:
        config_file = Path(temporary) / "config.yaml"
        OmegaConf.save(config, config_file, resolve=True)
        for name in config.parts:
            budget = min(config.budgets[name], config.limit - (time.monotonic() - start))
            with console.status(f"{name}: at most {budget:.0f} s"):
                results[name] = _run(name, config_file, folder / f"{name}.log", budget, environment)
            console.print(f"{name}: {results[name]['status']}, {results[name]['seconds']:.0f} s")
    return results


def _environment(*, dry_run: bool) -> dict[str, str]:
    paths = [str(_EXPERIMENTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    uncompiled = {"TORCHDYNAMO_DISABLE": "1"} if dry_run else {}  # compiling takes minutes on a CPU
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **uncompiled}


def _run(
    name: str, config_file: Path, log: Path, budget: float, environment: dict[str, str]
) -> dict[str, Any]:
    if budget <= 0:
        return {"status": "not run", "seconds": 0.0, "budget": 0.0, "checks": [], "error": "no time was left"}
    result_file = config_file.with_name(f"{name}.json")
    command = [sys.executable, "-m", "gpu_suite.part", name, str(config_file), str(result_file)]
    start, timed_out = time.monotonic(), False
    with log.open("w", encoding="utf-8") as stream, _process_group(command, stream, environment) as process:
        try:
            process.wait(timeout=budget)
        except subprocess.TimeoutExpired:
            timed_out = True
    result = _read(result_file)
    if process.returncode and not timed_out:
        result["error"] = result["error"] or f"the process ended with exit code {process.returncode}"
    passed = not result["error"] and all(check["passed"] for check in result["checks"])
    status = "timed out" if timed_out else "passed" if passed else "failed"
    result |= {"status": status, "seconds": time.monotonic() - start, "budget": budget}
    if status != "passed":
        result["log"] = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return result


@contextmanager
def _process_group(
    command: list[str], stream: Any, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command in a process group, which is killed at the end with all its processes."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(result_file: Path) -> dict[str, Any]:
    if not result_file.is_file():
        return {"checks": [], "error": "the part was stopped before its first check"}
    content: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    return content
