"""Where the CPU waits for the GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_REGION = "swahr.benchmark.waits"
_WAITING = {  # of CUDA, and of PyTorch, which on a CPU calls by the same names what a GPU would wait for
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "aten::_local_scalar_dense",
    "aten::nonzero",
}


def waits(action: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """How often ``action`` makes the CPU wait for the GPU, by the name of the call.

    On a CPU only PyTorch's operations are seen: those whose result Python, or the shape of a tensor, needs.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize(device)
    with profile(activities=activities) as profiler, record_function(_REGION):
        action()
    events = profiler.events() or []
    region = next(event.time_range for event in events if event.name == _REGION)
    inside = (
        e for e in events if region.start <= e.time_range.start <= region.end
    )  # the profiler waits, too
    return dict(Counter(event.name for event in inside if event.name in _WAITING))
