"""Training keeps the memory that it has freed."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from swahr.cli.train import _keep_freed_memory
if sys.argv[1] == "keep":
    _keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def allocate():
    [torch.ones(2**24) for _ in range(2)]  # of 64 MiB, above all thresholds of glibc
for _ in range(3):
    allocate()
before = faults()
allocate()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
def test_training_does_not_map_freed_memory_again():
    def faults(how: str) -> int:
        command = [sys.executable, "-c", SCRIPT, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("keep") < 100 < faults("leave")
