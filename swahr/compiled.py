"""Loops over pixels, compiled for CPUs by Numba.

Array operations pass over whole maps again and again; where each pixel needs many of them, or few pixels need
any, a CPU is quicker with the loop itself. GPUs have other strengths, and run array operations.

Machine code is made anew when the file of a function changes, and only then: a compiled function calls no
compiled function of another file, and who changes this file deletes the `__pycache__` folders.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numba
import torch
from numba import njit, set_num_threads

Function = TypeVar("Function", bound=Callable[..., Any])

_ONE_AT_A_TIME = threading.Lock()
"""Held while all cores work: not every library that Numba may share work with admits two threads."""

_PROCESS = os.getpid()
"""Threads do not survive a fork, and OpenMP's library ends the process that asks for them there."""


def compiled(*, reorder_sums: bool = False, parallel: bool = False) -> Callable[[Function], Function]:
    """Machine code for a function of arrays and numbers, made when it is first called and kept on disk.

    It rounds as written, lets other threads run, and does not check indices.

    Args:
        reorder_sums: sums may be formed in another order, several terms at a time.
        parallel: loops over `numba.prange` are shared among as many threads as PyTorch uses. Such a function
            is called by Python only.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    options["fastmath"] = {"reassoc"} if reorder_sums else False

    def compile_later(function: Function) -> Function:
        original: Function = inspect.unwrap(
            function
        )  # tests wrap functions in checks of shapes: not compiled
        try:
            machine_code: Function = njit(cache=True, parallel=parallel, **options)(original)
        except RuntimeError:  # there is no place where it may be kept
            machine_code = njit(parallel=parallel, **options)(original)
        return _on_all_cores(machine_code, njit(**options)(original)) if parallel else machine_code

    return compile_later


def _on_all_cores(machine_code: Function, on_one: Function) -> Function:
    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch's
    @wraps(machine_code)
    def run(*arguments: Any) -> Any:
        if os.getpid() != _PROCESS:
            return on_one(*arguments)
        threads = torch.get_num_threads()
        with _ONE_AT_A_TIME:
            most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined] # set by its import
            set_num_threads(min(threads, most))
            if torch.get_num_threads() != threads:  # by starting Numba's, if both use one library
                torch.set_num_threads(threads)
            return machine_code(*arguments)

    return cast("Function", run)
