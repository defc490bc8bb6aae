"""Inference with exported networks in ONNX Runtime or OpenVINO, followed by the same decoder."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from swahr.aggregate import Aggregator, Inputs
from swahr.checkpoint import import_onnx
from swahr.choices import check_choice
from swahr.inference.export import PEAKS
from swahr.inference.torch_network import Precision
from swahr.structures import DenseMaps, Peaks

_NAMES_OF_FORMAT_1 = {"scales": "scale_maps"}

Backend = Literal["onnxruntime", "openvino"]
ExportedNetwork = Callable[..., dict[str, Tensor]]
"""Predicts the graph's outputs by name, for images (b 3 H W) on the CPU and any further inputs."""


def open_exported(
    path: Path, *, backend: Backend | None = None, precision: Precision = "fp32"
) -> ExportedNetwork:
    """Load an ONNX file into a backend, on the CPU.

    Args:
        path: a file written by `swahr.inference.export_network`.
        backend: None selects OpenVINO if it is installed, otherwise ONNX Runtime.
        precision: ``fp32``, or ``bf16`` in OpenVINO.

    Raises:
        ImportError: the backend is not installed.
        ValueError: the backend is unknown, or does not have the precision.
    """
    if backend is None:
        backend = "openvino" if find_spec("openvino") else "onnxruntime"
    check_choice("backend", backend, get_args(Backend))
    if find_spec(backend) is None:
        extra = "onnx" if backend == "onnxruntime" else "openvino"
        raise ImportError(f"{path} needs the package {backend}: pip install 'swahr[{extra}]'")
    precisions = ("fp32", "bf16") if backend == "openvino" else ("fp32",)
    check_choice(f"precision in {backend}", precision, precisions)
    return _open_openvino(path, precision) if backend == "openvino" else _open_onnxruntime(path)


def _open_onnxruntime(path: Path) -> ExportedNetwork:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = [each.name for each in session.get_inputs()]
    names = [output.name for output in session.get_outputs()]

    def run(images: UInt8[Tensor, "b 3 H W"], *others: Tensor) -> dict[str, Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(inputs, (images, *others), strict=True)}
        return _named(names, session.run(names, given))

    return run


@cache
def _openvino() -> Any:
    """OpenVINO's core, which must live as long as the process.

    On CPUs with AMX it installs a stack for signal handlers and frees it when it is destroyed. The next
    signal, such as the end of a data loader's worker, would crash Python.
    """
    import openvino

    return openvino.Core()


def _open_openvino(path: Path, precision: Precision) -> ExportedNetwork:
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = _openvino().compile_model(path, "CPU", settings)
    # OpenVINO may give an output several names; only those in the file are reliable.
    names = [output.name for output in import_onnx().load(path, load_external_data=False).graph.output]

    def run(images: UInt8[Tensor, "b 3 H W"], *others: Tensor) -> dict[str, Tensor]:
        found = model([tensor.numpy() for tensor in (images, *others)])
        return _named(names, [found[name] for name in names])

    return run


def _named(names: Sequence[str], arrays: Sequence[npt.NDArray[np.float32]]) -> dict[str, Tensor]:
    pairs = zip(names, arrays, strict=True)
    return {_NAMES_OF_FORMAT_1.get(name, name): torch.from_numpy(array) for name, array in pairs}


class ExportedAggregator:
    """Predicts `DenseMaps` with an exported network; the peaks are among the fields.

    Args:
        aggregate: the aggregator with which the network was exported (`swahr.aggregate.Aggregator`).
    """

    def __init__(self, aggregate: Aggregator) -> None:
        self._aggregate = aggregate
        self.input_sizes = aggregate.input_sizes
        self.prepare = aggregate.prepare

    def merge(self, network: ExportedNetwork, inputs: Inputs) -> DenseMaps:
        """The network's outputs for prepared images."""
        fields = network(inputs.reference)
        h, w = fields["heatmaps"].shape[2:]
        return DenseMaps(fields, map_from_image=self._aggregate.map_frames(inputs, (h, w)))


def exported_peaks(maps: DenseMaps) -> Peaks:
    """The peaks among an exported network's outputs; this is the decoder's ``extract_peaks``."""
    return Peaks(*(maps.fields[name] for name in PEAKS))
