"""Compiled loops: they round as written, run on several cores, and need no place to be kept in."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import get_thread_id, prange

from swahr.compiled import compiled

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


@compiled(parallel=True)
def _rows(rows: np.ndarray, sums: np.ndarray, threads: np.ndarray) -> None:
    for row in prange(len(rows)):
        sums[row] = _sum(rows[row])
        threads[row] = get_thread_id()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_work_is_shared_among_the_threads_of_pytorch(threads: int, count: int) -> None:
    torch.set_num_threads(threads)
    rows, who = np.random.default_rng(0).random((count, 100), dtype=np.float32), np.full(count, -1)
    sums = np.full(count, -1, dtype=np.float32)
    _rows(rows, sums, who)
    assert sums.tolist() == [_sum(row) for row in rows]
    assert len(set(who.tolist())) == min(threads, count)


_FIRST_CALL = """
import numpy as np, torch
from swahr.decode.search import best_places

torch.set_num_threads(1)
maps, tags, tag = (np.zeros(shape, np.float32) for shape in [(1, 4, 4), (1, 4, 4, 1), (1, 1)])
best_places(maps, tags, np.zeros(1, int), tag)
print(torch.get_num_threads())
"""


def test_convention_pytorch_keeps_its_number_of_threads() -> None:
    run = subprocess.run([sys.executable, "-c", _FIRST_CALL], capture_output=True, text=True, check=False)
    assert run.stdout == "1\n", run.stderr


def test_several_threads_may_call_it() -> None:
    rows = np.random.default_rng(0).random((64, 100), dtype=np.float32)

    def call(_: int) -> np.ndarray:
        sums = np.zeros(len(rows), dtype=np.float32)
        _rows(rows, sums, np.zeros(len(rows), dtype=np.int64))
        return sums

    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(call, range(40)))
    assert all((result == results[0]).all() for result in results)
