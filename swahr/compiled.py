"""Loops over pixels, compiled for CPUs by Numba.

Array operations pass over whole maps again and again; where each pixel needs many of them, or few pixels need
any, a CPU is quicker with the loop itself. GPUs have other strengths, and run array operations.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numba
import torch
from numba import njit, set_num_threads

Function = TypeVar("Function", bound=Callable[..., Any])

_ONE_AT_A_TIME = threading.Lock()
"""Held while all cores work: not every library that Numba may share work with admits two threads."""


def compiled(*, reorder_sums: bool = False, parallel: bool = False) -> Callable[[Function], Function]:
    """Machine code for a function of arrays and numbers, made when it is first called and kept on disk.

    It rounds as written, lets other threads run, and does not check indices.

    Args:
        reorder_sums: sums may be formed in another order, several terms at a time.
        parallel: loops over `numba.prange` are shared among as many threads as PyTorch uses. Such a function
            is called by Python only.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "parallel": parallel}
    options["fastmath"] = {"reassoc"} if reorder_sums else False

    def compile_later(function: Function) -> Function:
        original = inspect.unwrap(function)  # tests wrap functions in checks of shapes: not compiled
        try:
            machine_code: Function = njit(cache=True, **options)(original)
        except RuntimeError:  # there is no place where it may be kept
            machine_code = njit(**options)(original)
        return _on_all_cores(machine_code) if parallel else machine_code

    return compile_later


def _on_all_cores(machine_code: Function) -> Function:
    @wraps(machine_code)
    def run(*arguments: Any) -> Any:
        threads = torch.get_num_threads()
        with _ONE_AT_A_TIME:
            most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined] # set by its import
            set_num_threads(min(threads, most))
            if torch.get_num_threads() != threads:  # by starting Numba's, if both use one library
                torch.set_num_threads(threads)
            return machine_code(*arguments)

    return run  # type: ignore[return-value] # takes what the function takes
