"""How much memory something takes at its peak."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(action: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that ``action`` takes at its peak beyond what is in use before; None where nobody can tell.

    On a GPU PyTorch's allocator knows; on a CPU Linux does, with page granularity.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        _RESET.write_text("5")
        before = _status("VmRSS")
        action()
        return _status("VmHWM") - before
    except OSError:
        return None


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise OSError(f"no {name} in {_STATUS}")
    return int(found[1]) * 1024
