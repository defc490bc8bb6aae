"""Running what `swahr.inference.export` wrote, in ONNX Runtime or OpenVINO, before the same decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from swahr.inference.export import INPUT, OUTPUTS
from swahr.inference.torch_network import Precision
from swahr.structures import DenseMaps, Peaks

Backend = Literal["onnxruntime", "openvino"]
ExportedNetwork = Callable[[UInt8[Tensor, "b 3 H W"]], dict[str, Tensor]]
"""Images on the CPU to the graph's outputs by name."""


def open_exported(path: Path, *, backend: Backend | None, precision: Precision) -> ExportedNetwork:
    """Load an ONNX file into a backend, on the CPU.

    Args:
        path: written by `swahr.inference.export_network`.
        backend: None takes OpenVINO if it is installed, otherwise ONNX Runtime.
        precision: ``bf16`` in OpenVINO only.

    Raises:
        ImportError: the backend is not installed.
        ValueError: an unknown backend, or a precision it does not have.
    """
    if backend is None:
        backend = "openvino" if find_spec("openvino") else "onnxruntime"
    if backend not in get_args(Backend):
        raise ValueError(f"expected backend {' or '.join(get_args(Backend))}, got {backend!r}")
    if find_spec(backend) is None:
        extra = "onnx" if backend == "onnxruntime" else "openvino"
        raise ImportError(f"{path} needs the package {backend}: pip install 'swahr[{extra}]'")
    has = ("fp32", "bf16") if backend == "openvino" else ("fp32",)
    if precision not in has:
        raise ValueError(f"expected precision {' or '.join(has)} in {backend}, got {precision!r}")
    return _open_openvino(path, precision) if backend == "openvino" else _open_onnxruntime(path)


def _open_onnxruntime(path: Path) -> ExportedNetwork:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Tensor]:
        return _named(names, session.run(names, {INPUT: images.numpy()}))

    return run


@cache
def _openvino() -> Any:
    """OpenVINO, once and for as long as the process lives.

    On CPUs with AMX it gives signal handlers another stack, which it takes away when it ends: the next
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
    # Where the last step computes nothing, OpenVINO gives an output several names, the file's among them.
    known = set().union(*(output.names for output in model.outputs))
    names = [name for name in OUTPUTS if name in known]

    def run(images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Tensor]:
        found = model(images.numpy())
        return _named(names, [found[name] for name in names])

    return run


def _named(names: Sequence[str], arrays: Sequence[npt.NDArray[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}


@dataclass(frozen=True, eq=False)
class MapsAndPeaks(DenseMaps):
    """Dense maps with the peaks that were found on the way."""

    peaks: Peaks


class ExportedAggregator:
    """From images to `MapsAndPeaks`, where the network is an exported one.

    Args:
        aggregate: as the network was exported with: how images lie in the input, and maps on it.
    """

    def __init__(self, aggregate: Aggregator) -> None:
        self._aggregate = aggregate
        self.input_sizes = aggregate.input_sizes
        self.prepare = aggregate.prepare

    def merge(self, network: ExportedNetwork, inputs: Inputs) -> MapsAndPeaks:
        """Name what the exported network says of prepared images."""
        named = network(inputs.reference)
        h, w = named["heatmaps"].shape[2:]
        return MapsAndPeaks(
            heatmaps=named["heatmaps"],
            tags=named["tags"],
            scales=named.get("scales"),
            map_from_image=self._aggregate.map_frames(inputs, (h, w)),
            peaks=Peaks(
                positions=named["peak_positions"], scores=named["peak_scores"], tags=named["peak_tags"]
            ),
        )

    @staticmethod
    def peaks(maps: DenseMaps) -> Peaks:
        """The peaks that came with the maps: a decoder's ``extract_peaks``."""
        assert isinstance(maps, MapsAndPeaks)
        return maps.peaks
