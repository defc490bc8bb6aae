"""How much memory something takes at its peak."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_USAGE = Path("/proc/self/statm")


def peak_bytes(action: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that ``action`` takes at its peak beyond what is in use before; None where nobody can tell.

    On a GPU PyTorch's allocator knows. On a CPU a thread looks, all the time, at what Linux says is resident.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    if not _USAGE.exists():
        return None
    before, seen, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.0002):
            seen.append(_resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return max(0, max(seen) - before)


def _resident() -> int:
    return int(_USAGE.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
