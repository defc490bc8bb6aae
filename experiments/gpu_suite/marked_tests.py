"""Runs the tests marked ``gpu``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

import torch
from omegaconf import DictConfig

from gpu_suite.checks import Check

_ROOT = Path(__file__).resolve().parents[2]
_COMPLETED = (0, 1)  # pytest's exit codes if it ran all tests: all passed, some failed


def run_marked_tests(config: DictConfig, device: torch.device) -> Iterator[Check]:
    """A check for each test in ``config.tests`` that is marked ``gpu``.

    A skipped test counts as failed, except on a CPU, where all of them are skipped.

    Raises:
        RuntimeError: pytest did not run any test, or not all of them.
    """
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={report}", *config.tests]
        code = subprocess.run(command, cwd=_ROOT, check=False).returncode
        cases = list(ET.parse(report).iter("testcase")) if report.is_file() else []
    if not cases:
        raise RuntimeError(f"pytest ended with exit code {code} and ran no test; its output is in the log")
    for case in cases:
        yield _check(case, skips_allowed=device.type == "cpu")
    if code not in _COMPLETED:
        raise RuntimeError(f"pytest ended with exit code {code}; its output is in the log")


def _check(case: ET.Element, *, skips_allowed: bool) -> Check:
    outcome = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
    name = f"{case.get('classname')}.{case.get('name')}"
    seconds = {"seconds": float(case.get("time", 0))}
    if outcome is None:
        return Check(name, passed=True, measurements=seconds)
    passed = skips_allowed and outcome.tag == "skipped"
    return Check(name, passed, seconds, f"{outcome.tag}: {outcome.get('message', '')}")
