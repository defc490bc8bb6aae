"""Loops over pixels, compiled for CPUs by Numba, and run on several cores.

Array operations pass over whole maps again and again; where each pixel needs many of them, or few pixels need
any, a CPU is quicker with the loop itself. GPUs have other strengths, and run array operations.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import torch
from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*, reorder_sums: bool = False) -> Callable[[Function], Function]:
    """Machine code for a function of arrays and numbers, made when it is first called and kept on disk.

    It rounds as written, lets other threads run, and does not check indices.

    Args:
        reorder_sums: sums may be formed in another order, several terms at a time.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    options["fastmath"] = {"reassoc"} if reorder_sums else False

    def compile_later(function: Function) -> Function:
        original = inspect.unwrap(function)  # tests wrap functions in checks of shapes: not compiled
        try:
            machine_code: Function = njit(cache=True, **options)(original)
        except RuntimeError:  # there is no place where it may be kept
            machine_code = njit(**options)(original)
        return machine_code

    return compile_later


def on_all_cores(work: Callable[[int], object], parts: int) -> None:
    """Do ``work(0)`` to ``work(parts - 1)``, on as many threads as PyTorch uses.

    Raises:
        Exception: what a part raises.
    """
    threads = min(torch.get_num_threads(), parts)
    if threads < 2:
        for part in range(parts):
            work(part)
        return
    others = [_threads(threads - 1).submit(work, part) for part in range(1, parts)]
    work(0)
    for other in others:
        other.result()


@lru_cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="swahr")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_threads.cache_clear)
