"""The decorator `compiled`, which compiles a kernel's loops with Numba.

Numba caches machine code per source file and does not track changes in other files. So a kernel must not call
a kernel of another module, and after editing this file the `__pycache__` folders must be deleted.
"""

import inspect
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numba
import torch
from numba import njit, set_num_threads

from swahr.kernels import IMPORTING_PROCESS

Function = TypeVar("Function", bound=Callable[..., Any])

_ONE_AT_A_TIME = threading.Lock()
"""Held while all cores work: some of Numba's threading layers do not allow calls from two threads."""


def compiled(*, parallel: bool = False) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function at its first call and caches the machine code on disk.

    The machine code rounds as written, releases the GIL, and does not check indices.

    Args:
        parallel: run loops over `numba.prange` on as many threads as PyTorch uses. Only Python can call such
            a function.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

    def compile_later(function: Function) -> Function:
        original: Function = inspect.unwrap(function)  # tests wrap functions in checks of shapes
        try:
            machine_code: Function = njit(cache=True, parallel=parallel, **options)(original)
        except RuntimeError:  # no cache folder is writable
            machine_code = njit(parallel=parallel, **options)(original)
        return _on_all_cores(machine_code, njit(**options)(original)) if parallel else machine_code

    return compile_later


def _on_all_cores(machine_code: Function, on_one: Function) -> Function:
    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch's
    @wraps(machine_code)
    def run(*arguments: Any) -> Any:
        if os.getpid() != IMPORTING_PROCESS:
            # Threads do not survive a fork, and OpenMP aborts a forked process that uses them.
            return on_one(*arguments)
        threads = torch.get_num_threads()
        with _ONE_AT_A_TIME:
            most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined] # set by its import
            set_num_threads(min(threads, most))
            if torch.get_num_threads() != threads:  # Numba changed it, as both share one library
                torch.set_num_threads(threads)
            return machine_code(*arguments)

    return cast("Function", run)
