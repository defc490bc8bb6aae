"""The decorator `compiled`, which compiles a kernel's loops with Numba.

Numba caches machine code per source file and does not track changes in other files. So a kernel must not call
a kernel of another module, and after editing this file the `__pycache__` folders must be deleted.
"""

import inspect
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar, cast

import numba
import torch
from numba import njit, set_num_threads
from numba.core.caching import FunctionCache

from swahr.kernels import IMPORTING_PROCESS

_log = logging.getLogger(__name__)

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
        machine_code: Any = njit(parallel=parallel, **options)(original)
        with suppress(RuntimeError):  # no cache folder is writable
            machine_code._cache = cast("Any", _Cache)(original)
        if parallel:
            machine_code = _on_all_cores(machine_code, njit(**options)(original))
        return cast("Function", machine_code)

    return compile_later


class _Cache(FunctionCache):
    """Numba's cache on disk, which here is never needed: if it fails, the function is compiled anew."""

    def load_overload(self, *signature_and_target: Any) -> Any:
        """The compiled function, or None; an unreadable cache, e.g. one cut short, is emptied."""
        numbas: Any = super()
        try:
            return numbas.load_overload(*signature_and_target)
        except Exception as error:  # unpickling damaged bytes can raise anything
            _log.warning("%s: machine code is unreadable (%r); compiling it anew", self.cache_path, error)
            with suppress(OSError):
                numbas.flush()
            return None

    def save_overload(self, *signature_and_code: Any) -> None:
        """Save the compiled function, if the disk allows it."""
        numbas: Any = super()
        try:
            numbas.save_overload(*signature_and_code)
        except Exception as error:
            _log.warning("%s: machine code cannot be saved (%r)", self.cache_path, error)


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
