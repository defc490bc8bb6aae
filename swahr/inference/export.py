"""Writing a network as one ONNX file: images in; maps and their peaks out."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from swahr.aggregate import Aggregator
from swahr.checkpoint import add_description, import_onnx
from swahr.grouping import PeakExtractor
from swahr.inference.peaks import GraphPeaks
from swahr.model import HigherHRNet, fold_batch_norm

INPUT = "images"
_DYNAMIC = {0: "images", 2: "height", 3: "width"}
_OPSET = 17  # read by ONNX Runtime from 1.12 and by OpenVINO from 2023.0 on
_TRACED_SIDE = 256


class _Graph(nn.Module):
    """What is traced; the names of its outputs are `output_names`."""

    def __init__(self, network: HigherHRNet, aggregate: Aggregator, extract_peaks: PeakExtractor) -> None:
        super().__init__()
        self.network = fold_batch_norm(network)
        self.aggregate = aggregate
        self.extract_peaks = GraphPeaks(extract_peaks)

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> tuple[Tensor, ...]:
        maps = self.aggregate.look(self.network, images)
        peaks = self.extract_peaks(maps)
        found = (maps.heatmaps, maps.tags, peaks.positions, peaks.scores, peaks.tags)
        return found if maps.scales is None else (*found, maps.scales)


OUTPUTS = ("heatmaps", "tags", "peak_positions", "peak_scores", "peak_tags", "scales")
"""Names of the file's outputs; the last one only where the network has a scale head."""


def export_network(
    path: Path,
    *,
    network: HigherHRNet,
    aggregate: Aggregator,
    extract_peaks: PeakExtractor,
    description: str,
) -> None:
    """Write network, flip test, merging of strides and peak extraction for any number and size of images.

    Everything up to the peaks is in the graph; grouping, refinement and recovery read its outputs.

    Args:
        path: the file; nothing appears there before it is complete.
        network: with its weights.
        aggregate: its flip and projection become part of the graph; input sizes may still change.
        extract_peaks: becomes part of the graph, in a form that has shapes known beforehand.
        description: see `swahr.checkpoint.describe_run`.

    Raises:
        ImportError: the package ``onnx`` is not installed.
        ValueError: several test scales, which would be several graphs.
    """
    import_onnx()  # torch, which needs it, would say less clearly that it is missing
    if aggregate.test_scales != (1.0,):
        raise ValueError(
            f"expected test scale 1 alone, because one graph sees an image once, got "
            f"{list(aggregate.test_scales)}; add 'aggregate.test_scales=[1.0]'"
        )
    partial = path.with_name(path.name + ".partial")
    graph = _Graph(network.cpu(), aggregate, extract_peaks).eval()
    images = torch.zeros(1, 3, _TRACED_SIDE, _TRACED_SIDE, dtype=torch.uint8)
    # The exporter that traces: it needs no package but onnx, and all versions of PyTorch since 2.4 have it.
    tracing: dict[str, Any] = (
        {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # constants in the trace are meant, and the tracer is called legacy
        names = OUTPUTS[: len(graph(images))]
        torch.onnx.export(
            graph,
            (images,),
            str(partial),
            input_names=[INPUT],
            output_names=list(names),
            dynamic_axes={INPUT: _DYNAMIC} | {name: {0: "images"} for name in names},
            opset_version=_OPSET,
            **tracing,
        )
    add_description(partial, description)
    partial.replace(path)
