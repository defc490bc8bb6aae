"""Inference in PyTorch, and in ONNX Runtime and OpenVINO after export to ONNX."""

from swahr.inference.export import export_network
from swahr.inference.exported import (
    Backend,
    ExportedAggregator,
    ExportedNetwork,
    exported_peaks,
    open_exported,
)
from swahr.inference.torch_network import Precision, TorchNetwork

__all__ = [
    "Backend",
    "ExportedAggregator",
    "ExportedNetwork",
    "Precision",
    "TorchNetwork",
    "export_network",
    "exported_peaks",
    "open_exported",
]
