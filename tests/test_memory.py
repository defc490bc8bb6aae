"""Commands keep the memory that they have freed."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from swahr.execution import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def allocate():
    [torch.ones(2**24) for _ in range(2)]  # of 64 MiB, above all thresholds of glibc
counts = []
for _ in range(8):
    before = faults()
    allocate()
    counts.append(faults() - before)
print(min(counts[3:]))  # a busy machine can take pages away
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
def test_freed_memory_is_not_mapped_again():
    def faults(how: str) -> int:
        command = [sys.executable, "-c", SCRIPT, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("keep") < 100 < faults("leave")
