"""A compiled network says, and learns, the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_compiled_network_says_and_learns_the_same(repository: Path) -> None:
    command = [sys.executable, Path(__file__).with_name("compiled.py")]
    settings = os.environ | {"PYTHONPATH": str(repository), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    outcome = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if "InvalidCxxCompiler" in outcome.stderr:
        pytest.skip("needs a C++ compiler")
    assert outcome.returncode == 0, outcome.stderr
