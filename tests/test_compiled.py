"""Compiled loops: they round as written, run on several cores, and need no place to be kept in."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from swahr.compiled import compiled, on_all_cores

_SCRIPT = """
from swahr.compiled import compiled

@compiled()
def double(x):
    return 2 * x

print(double(21))
"""


@compiled()
def _sum(values: np.ndarray) -> np.float32:
    total = np.float32(0)
    for value in values:
        total += value
    return total


def test_compiled_rounds_as_written() -> None:
    values = np.random.default_rng(0).random(10_000, dtype=np.float32)
    assert _sum(values) == np.cumsum(values, dtype=np.float32)[-1]


def test_compiled_runs_where_nothing_may_be_written(tmp_path: Path) -> None:
    module = tmp_path / "loops" / "loop.py"
    module.parent.mkdir()
    module.write_text(_SCRIPT)
    # Numba looks for a place beside the module, then in the user's cache: neither can be made here.
    (module.parent / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    environment.pop("NUMBA_CACHE_DIR", None)
    run = subprocess.run(
        [sys.executable, module], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout == "42\n", run.stderr


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("parts", [0, 1, 5])
def test_all_parts_are_done_once(threads: int, parts: int) -> None:
    torch.set_num_threads(threads)
    done: list[int] = []
    on_all_cores(done.append, parts)
    assert sorted(done) == list(range(parts))


def test_parts_are_done_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)
    on_all_cores(lambda _: meeting.wait(), 2)


def test_what_a_part_raises_is_raised() -> None:
    def fail(part: int) -> None:
        if part == 1:
            raise ValueError("part 1")

    with pytest.raises(ValueError, match="part 1"):
        on_all_cores(fail, 3)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    on_all_cores(lambda _: None, 2)
    child = os.fork()
    if child == 0:
        on_all_cores(lambda _: None, 2)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
