"""Synchronisations of the CPU with a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

_REGION = "benchmarks.synchronisations"
# Calls of CUDA, and operations of PyTorch that synchronise on a GPU and have the same names on a CPU.
_WAITING = {
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "aten::_local_scalar_dense",
    "aten::nonzero",
}


def synchronisations(action: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """How often ``action`` makes the CPU wait for the GPU, by the name of the call.

    On a CPU, only the operations of PyTorch that would synchronise a GPU are counted.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize(device)
    with profile(activities=activities) as profiler, record_function(_REGION):
        action()
    events = profiler.events() or []
    named = (event for event in events if event.name == _REGION and event.device_type == DeviceType.CPU)
    region = next(named).time_range
    # The profiler itself synchronises outside the region.
    inside = (event for event in events if region.start <= event.time_range.start <= region.end)
    return dict(Counter(event.name for event in inside if event.name in _WAITING))
