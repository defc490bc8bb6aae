"""Export of a network to one ONNX file, from images to maps and their peaks."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from swahr.aggregate import Aggregator
from swahr.checkpoint import add_description, import_onnx
from swahr.files import whole_file
from swahr.grouping import PeakExtractor
from swahr.inference.torch_network import fold_batch_norm
from swahr.structures import DenseMaps

INPUT, CONDITION = "images", "condition"
_DYNAMIC = {0: "images", 2: "height", 3: "width"}
_OPSET = 17  # supported since ONNX Runtime 1.12 and OpenVINO 2023.0
_TRACED_SIDE = 256


class _Graph(nn.Module):
    """The traced part of the test-time pipeline; the outputs are the values of `named`."""

    def __init__(
        self, network: nn.Module, aggregate: Aggregator, extract_peaks: PeakExtractor | None
    ) -> None:
        super().__init__()
        self.network = fold_batch_norm(network)
        self.aggregate = aggregate
        self.extract_peaks = extract_peaks

    def forward(
        self, images: UInt8[Tensor, "b 3 H W"], *condition: Float[Tensor, "b k 2"]
    ) -> tuple[Tensor, ...]:
        return tuple(self.named(images, *condition).values())

    def named(
        self, images: UInt8[Tensor, "b 3 H W"], *condition: Float[Tensor, "b k 2"]
    ) -> dict[str, Tensor]:
        """The outputs by name: every predicted map, merged, and the peaks."""
        fields = self.aggregate.forward_test_scale(lambda views: self.network(views, *condition), images)
        if self.extract_peaks is None:
            return dict(fields)
        peaks = self.extract_peaks.in_tensors(DenseMaps(fields, map_from_image=()))
        found = zip(PEAKS, (peaks.positions, peaks.scores, peaks.tags), strict=True)
        return {**fields, **dict(found)}


PEAKS = ("peak_positions", "peak_scores", "peak_tags")
"""Names of the outputs with the peaks."""


def export_network(
    path: Path,
    *,
    network: nn.Module,
    aggregate: Aggregator,
    extract_peaks: PeakExtractor | None,
    description: str,
    conditions: int = 0,
) -> None:
    """Write an ONNX file that takes images of any number and size.

    Its outputs are every predicted map, by name and merged over strides and flips, and the peaks. Grouping,
    refinement and recovery are not part of it.

    Args:
        path: the file to write; it appears when it is complete.
        network: the network with its weights (`swahr.model.HigherHRNet`).
        aggregate: its flip and projection become part of the graph, its input sizes do not.
        extract_peaks: becomes part of the graph, as `PeakExtractor.in_tensors`; None leaves the peaks out.
        description: see `swahr.checkpoint.describe_run`.
        conditions: number of keypoints (x, y) that the network takes beside each image, for a
            `swahr.second_stage.ConditionedNetwork`; the aggregator must not flip images then.

    Raises:
        ImportError: the package ``onnx`` is not installed.
        ValueError: there are several test scales, which need several graphs.
    """
    import_onnx()  # its error is clearer than that of torch, which needs the package
    if aggregate.test_scales != (1.0,):
        raise ValueError(
            "expected test scale 1 only, because a graph has one input size, got "
            f"{list(aggregate.test_scales)}; add 'aggregate.test_scales=[1.0]'"
        )
    graph = _Graph(network.cpu(), aggregate, extract_peaks).eval()
    inputs = {INPUT: torch.zeros(1, 3, _TRACED_SIDE, _TRACED_SIDE, dtype=torch.uint8)}
    if conditions:
        inputs[CONDITION] = torch.zeros(1, conditions, 2)
    # The tracing exporter needs no package but onnx. Only newer versions of PyTorch have the switch.
    is_new = "dynamo" in inspect.signature(torch.onnx.export).parameters
    tracing: dict[str, Any] = {"dynamo": False} if is_new else {}
    with whole_file(path) as partial, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # constants in the trace are intended
        names = list(graph.named(*inputs.values()))
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            str(partial),
            input_names=[*inputs],
            output_names=names,
            dynamic_axes={name: {0: "images"} for name in [*inputs, *names]} | {INPUT: _DYNAMIC},
            opset_version=_OPSET,
            **tracing,
        )
        add_description(partial, description)
