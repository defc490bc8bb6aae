"""Loops over pixels, compiled for CPUs by Numba: arrays in, arrays out.

On a CPU, chains of tensor operations are memory-bound; these loops read each map once. The stage that calls a
kernel has a version in tensor operations too, for GPUs and exported graphs.

Stages import a kernel where they call it, as Numba takes a second to import.
"""

import os

import torch
from torch import Tensor

IMPORTING_PROCESS = os.getpid()
"""The process that imported the stages; kernels may be imported later, in a process forked from it."""

_TYPES = (torch.float32, torch.int64, torch.bool)


def accept(*tensors: Tensor) -> bool:
    """Return whether kernels accept these tensors: they are on the CPU, and floats are float32."""
    return all(tensor.device.type == "cpu" and tensor.dtype in _TYPES for tensor in tensors)
