"""Running networks: in PyTorch, or exported to ONNX, in ONNX Runtime and OpenVINO."""

from swahr.inference.export import export_network
from swahr.inference.exported import Backend, ExportedAggregator, ExportedNetwork, open_exported
from swahr.inference.torch_network import Precision, TorchNetwork

__all__ = [
    "Backend",
    "ExportedAggregator",
    "ExportedNetwork",
    "Precision",
    "TorchNetwork",
    "export_network",
    "open_exported",
]
