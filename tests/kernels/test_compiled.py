"""Compiled loops: they round as written, run on several cores, and need no folder for their cache."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest
import torch
from numba import get_thread_id, prange
from numba.core.dispatcher import Dispatcher

import swahr
from swahr.kernels.compiled import compiled


def printed(file: Path, script: str, **variables: str) -> str:
    """What a script, in a file beside which machine code may be kept, prints in a process of its own."""
    file.write_text(script)
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"} | variables
    run = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@compiled()
def _sum(values: np.ndarray) -> np.float32:
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i]
    return total


def test_compiled_rounds_as_written() -> None:
    values = np.random.default_rng(0).random(10_000, dtype=np.float32)
    assert _sum(values) == np.cumsum(values, dtype=np.float32)[-1]


_DOUBLE = """
from swahr.kernels.compiled import compiled

@compiled()
def double(x):
    return 2 * x

print(double(21))
"""


_LOG = """
import logging, sys
logging.basicConfig(stream=sys.stdout)
"""
_PEAKS = """
import torch
from swahr.grouping import PeakExtractor
from swahr.structures import DenseMaps

heatmaps = torch.rand(1, 4, 64, 64)
peaks = PeakExtractor()(DenseMaps({"heatmaps": heatmaps, "tags": heatmaps[..., None]}, ()))
print(int((peaks.scores > 0).sum()))
"""


def test_compiled_runs_where_nothing_may_be_written(tmp_path: Path) -> None:
    # Numba tries a folder beside the module, then the user's cache: neither can be made here.
    (tmp_path / "__pycache__").write_text("")
    home = tmp_path / "home"
    home.write_text("")
    output = printed(tmp_path / "double.py", _DOUBLE, HOME=str(home), XDG_CACHE_HOME=str(home))
    assert output == "42\n"


@pytest.mark.parametrize(("suffix", "left"), [("nbi", 0), ("nbi", 60), ("nbc", 200)])
def test_a_cache_that_was_cut_short_is_replaced(tmp_path: Path, suffix: str, left: int) -> None:
    script, cache = _LOG + _DOUBLE, {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert printed(tmp_path / "double.py", script, **cache) == "42\n"
    (file,) = (tmp_path / "cache").rglob(f"*.{suffix}")
    file.write_bytes(file.read_bytes()[:left])
    assert "machine code is unreadable" in printed(tmp_path / "double.py", script, **cache)
    assert printed(tmp_path / "double.py", script, **cache) == "42\n"
    assert len(list((tmp_path / "cache").rglob("*.nb?"))) == 2


def test_the_package_s_own_cache_may_be_cut_short(tmp_path: Path) -> None:
    script, cache = _LOG + _PEAKS, {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert printed(tmp_path / "peaks.py", script, **cache) == "120\n"
    files = list((tmp_path / "cache").rglob("*.nb?"))
    assert len(files) > 2
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    again = printed(tmp_path / "peaks.py", script, **cache).splitlines()
    assert again[-1] == "120"
    assert all("machine code is unreadable" in line for line in again[:-1])
    assert printed(tmp_path / "peaks.py", script, **cache) == "120\n"


def test_compiled_runs_when_the_disk_is_full(tmp_path: Path) -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    output = printed(tmp_path / "double.py", _LOG + limit + _DOUBLE, NUMBA_CACHE_DIR=str(tmp_path))
    assert "machine code cannot be saved" in output
    assert output.endswith("\n42\n")


def _compiled_functions(module: ModuleType) -> dict[str, Dispatcher]:
    """By the names that they have in a module."""
    unwrapped = {
        name: inspect.unwrap(value, stop=lambda function: isinstance(function, Dispatcher))
        for name, value in vars(module).items()
        if callable(value)
    }
    return {name: value for name, value in unwrapped.items() if isinstance(value, Dispatcher)}


def test_convention_compiled_functions_call_none_of_another_file() -> None:
    """Numba looks only at a function's own file to see whether its machine code is outdated."""
    names = [found.name for found in pkgutil.walk_packages(swahr.__path__, "swahr.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith(".main")]
    calls = 0
    for module in modules:
        functions = _compiled_functions(module)
        for function in functions.values():
            if function.py_func.__module__ == module.__name__:
                for name in functions.keys() & set(function.py_func.__code__.co_names):
                    calls += 1
                    assert functions[name].py_func.__module__ == module.__name__, f"{function} calls {name}"
    assert calls > 10


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
    cores = numba.config.NUMBA_NUM_THREADS
    assert len(set(who.tolist())) == min(threads, count, cores)


_FIRST_CALL = """
import numpy as np, torch
from numba import prange
from swahr.kernels.compiled import compiled

@compiled(parallel=True)
def fill(numbers):
    for i in prange(len(numbers)):
        numbers[i] = i

torch.set_num_threads(1)
fill(np.zeros(10))
print(torch.get_num_threads())
"""


def test_convention_pytorch_keeps_its_number_of_threads(tmp_path: Path) -> None:
    assert printed(tmp_path / "first_call.py", _FIRST_CALL) == "1\n"


_FORK = """
import os
fill(np.zeros(10))
child = os.fork()
if child == 0:
    numbers = np.zeros(10)
    fill(numbers)
    os._exit(int(numbers.sum()))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_processes_may_call_it(tmp_path: Path) -> None:
    assert printed(tmp_path / "fork.py", _FIRST_CALL + _FORK) == "1\n45\n"


_FIRST_CALL_IN_A_FORK = """
import os, sys, torch
from swahr.grouping import PeakExtractor
from swahr.structures import DenseMaps

torch.set_num_threads(2)
heatmaps = torch.rand(1 << 20).exp().view(1, 4, 512, 512)  # on threads, which the child does not have
assert "numba" not in sys.modules
child = os.fork()
if child == 0:
    peaks = PeakExtractor()(DenseMaps({"heatmaps": heatmaps, "tags": heatmaps[..., None]}, ()))
    from numba.np.ufunc import parallel
    os._exit(int((peaks.scores > 0).sum()) + parallel._is_initialized)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_kernel_may_be_imported_first_in_a_forked_process(tmp_path: Path) -> None:
    """The child finds 4 times 30 peaks, and starts no threads for it."""
    assert printed(tmp_path / "first_in_fork.py", _FIRST_CALL_IN_A_FORK) == "120\n"


@pytest.mark.parametrize("stage", ["grouping", "decode", "targets"])
def test_importing_a_stage_does_not_import_the_compiler(tmp_path: Path, stage: str) -> None:
    script = f"import sys, swahr.{stage}\nprint('numba' in sys.modules, 'swahr.kernels' in sys.modules)"
    assert printed(tmp_path / "light.py", script) == "False True\n"


_MANY_THREADS = """
import threading
torch.set_num_threads(2)
arrays = [np.zeros(1000) for _ in range(200)]
run = lambda part: [fill(numbers) for numbers in part]
callers = [threading.Thread(target=run, args=(arrays[i::4],)) for i in range(4)]
[caller.start() for caller in callers]
[caller.join() for caller in callers]
print(all((numbers == np.arange(1000)).all() for numbers in arrays))
"""


def test_several_threads_may_call_it(tmp_path: Path) -> None:
    """Also with the one of Numba's libraries that ends the process when they do so at once."""
    output = printed(tmp_path / "many.py", _FIRST_CALL + _MANY_THREADS, NUMBA_THREADING_LAYER="workqueue")
    assert output == "1\nTrue\n"


def test_torch_compile_passes_over_it() -> None:
    def double_rows(rows: torch.Tensor) -> torch.Tensor:
        sums = torch.empty(len(rows))
        _rows(rows.numpy(), sums.numpy(), np.zeros(len(rows), dtype=np.int64))
        return sums * 2

    rows = torch.rand(5, 100)
    assert torch.equal(torch.compile(double_rows, backend="eager")(rows), double_rows(rows))
