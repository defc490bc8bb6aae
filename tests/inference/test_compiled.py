"""A compiled network predicts and learns the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_compiled_network_predicts_and_learns_the_same(repository: Path) -> None:
    command = [sys.executable, Path(__file__).with_name("compiled.py")]
    path = os.pathsep.join(map(str, (repository, repository / "tests")))
    settings = os.environ | {"PYTHONPATH": path, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    outcome = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if "InvalidCxxCompiler" in outcome.stderr:
        pytest.skip("needs a C++ compiler")
    assert outcome.returncode == 0, outcome.stderr
