"""The peak memory of an operation."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # resets the peak to the current resident size (proc(5))


def peak_bytes(action: Callable[[], Any], device: torch.device) -> int | None:
    """Peak memory of ``action`` in bytes, beyond the memory in use before; None if it cannot be measured.

    On a GPU it is that of PyTorch's allocator. On a CPU it is the greatest resident size according to Linux,
    whichever library allocates; unused memory is returned to the system first, so that it counts.
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
