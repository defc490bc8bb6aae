"""How much memory something takes at its peak."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # what Linux takes for: the peak begins anew at what is resident now (proc(5))


def peak_bytes(action: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that ``action`` takes at its peak beyond what is in use before; None where nobody can tell.

    On a GPU PyTorch's allocator knows. On a CPU Linux keeps the greatest resident size, whoever allocates;
    memory that the process holds without using it is given back first, so that it counts when it is taken.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _RESET.write_text(_RESET_PEAK)
        before = _resident("VmRSS")
    except (AttributeError, OSError):  # another C library; another system
        return None
    action()
    return max(0, _resident("VmHWM") - before)


def _resident(name: str) -> int:
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields[name].removesuffix("kB")) * 1024
