"""An exported network finds the same poses as PyTorch, in every backend."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from swahr.aggregate import Aggregator
from swahr.grouping import PeakExtractor
from swahr.inference import TorchNetwork, export_network, open_exported
from swahr.inference.export import PEAKS
from swahr.model import HigherHRNet
from swahr.skeleton import COCO
from swahr.structures import DenseMaps, Peaks

PRECISIONS = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
TOLERANCE = {"fp32": 1e-5, "bf16": 4e-2}
"""Relative to the largest value; bf16 rounds each of thirty layers to 8 bits, an error of 2^-9."""

pytestmark = [
    pytest.mark.usefixtures("untyped"),
    pytest.mark.skipif(find_spec("onnx") is None, reason="needs onnx: pip install 'swahr[onnx]'"),
]


def needs(backend: str) -> None:
    extra = "onnx" if backend == "onnxruntime" else "openvino"
    pytest.importorskip(backend, reason=f"needs {backend}: pip install 'swahr[{extra}]'")


def export(folder: Path, network: HigherHRNet, aggregate: Aggregator) -> Path:
    path = folder / "network.onnx"
    export_network(
        path, network=network, aggregate=aggregate, extract_peaks=PeakExtractor(), description="{}"
    )
    return path


@pytest.mark.parametrize(("backend", "precision"), PRECISIONS)
@pytest.mark.parametrize(("flip", "project"), [(True, False), (True, True), (False, False)])
def test_maps_and_peaks_are_those_of_pytorch_at_any_size(
    make_network, tmp_path, backend, precision, flip, project
):
    needs(backend)
    network, aggregate = make_network(), Aggregator(COCO.flip_permutation, flip=flip, project=project)
    run = open_exported(export(tmp_path, network, aggregate), backend=backend, precision=precision)
    for size in [(1, 64, 96), (2, 96, 64)]:
        images = torch.randint(0, 255, (size[0], 3, *size[1:]), dtype=torch.uint8)
        found = run(images)
        maps = aggregate.forward_test_scale(TorchNetwork(network, device="cpu"), images)
        assert tuple(found) == (*maps, *PEAKS)
        assert set(maps) == {"heatmaps", "tags", "scale_maps", "log_weight_maps"}
        for name, expected in maps.items():
            atol = TOLERANCE[precision] * float(expected.abs().max())
            torch.testing.assert_close(found[name], expected, rtol=0, atol=atol)
        if precision == "fp32":
            peaks = PeakExtractor()(DenseMaps(maps, ()))
            atol = TOLERANCE[precision] * float(peaks.scores.max())
            torch.testing.assert_close(found["peak_scores"], peaks.scores, rtol=0, atol=atol)
            sure = peaks.scores > 0
            distance = (found["peak_positions"] - peaks.positions)[sure].abs().amax(dim=1)
            assert (distance > 0).float().mean() < 0.01  # peaks of all but equal height may change places


def test_a_network_without_a_head_has_no_such_output(make_network, tmp_path):
    needs("onnxruntime")
    network = make_network(heads=("heatmaps", "tags"))
    path = export(tmp_path, network, Aggregator(COCO.flip_permutation, flip=False))
    found = open_exported(path, backend="onnxruntime", precision="fp32")(torch.zeros(1, 3, 64, 64).byte())
    assert tuple(found) == ("heatmaps", "tags", *PEAKS)
    assert found["tags"].shape[-1] == 1


def test_several_test_scales_are_refused(make_network, tmp_path):
    with pytest.raises(ValueError, match=r"add 'aggregate\.test_scales=\[1\.0\]'"):
        export(tmp_path, make_network(), Aggregator(COCO.flip_permutation, test_scales=(0.5, 1.0)))
    assert list(tmp_path.iterdir()) == []


def test_errors_name_unsupported_precisions_and_missing_packages(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="precision in onnxruntime: expected one of 'fp32', got 'bf16'"):
        open_exported(tmp_path / "x.onnx", backend="onnxruntime", precision="bf16")
    with pytest.raises(ValueError, match="backend: expected one of 'onnxruntime', 'openvino', got 'tvm'"):
        open_exported(tmp_path / "x.onnx", backend="tvm", precision="fp32")
    monkeypatch.setattr("swahr.inference.exported.find_spec", lambda name: None)
    for backend, extra in (("onnxruntime", "onnx"), ("openvino", "openvino"), (None, "onnx")):
        with pytest.raises(ImportError, match=rf"pip install 'swahr\[{extra}\]'"):
            open_exported(tmp_path / "x.onnx", backend=backend, precision="fp32")


class Peaky(torch.nn.Module):
    """Traces as the end of an exported graph does."""

    def __init__(self, extract_peaks: PeakExtractor) -> None:
        super().__init__()
        self.extract_peaks = extract_peaks

    def forward(self, heatmaps: torch.Tensor, tags: torch.Tensor) -> tuple[torch.Tensor, ...]:
        peaks = self.extract_peaks.in_tensors(DenseMaps({"heatmaps": heatmaps, "tags": tags}, ()))
        return peaks.positions, peaks.scores, peaks.tags


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("plateaus", ["one", "all"])
def test_the_graph_finds_the_peaks_that_the_extractor_finds(tmp_path, plateaus, backend):
    """For maps of another size than the traced ones, with many equal peaks."""
    needs(backend)
    generator, path = torch.Generator().manual_seed(0), tmp_path / "peaks.onnx"
    extractor = PeakExtractor(max_people=40, threshold=0.3, plateaus=plateaus)
    traced, heat = torch.rand(1, 3, 16, 16), torch.rand(2, 3, 20, 30, generator=generator)
    names, axes = ["heatmaps", "tags"], {0: "images", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about its age, of the tracer about Python values
        torch.onnx.export(
            Peaky(extractor), (traced, torch.stack([traced, traced], dim=-1)), str(path), input_names=names,
            output_names=["positions", "scores", "tags_found"], dynamic_axes=dict.fromkeys(names, axes),
            opset_version=17, dynamo=False,
        )  # fmt: skip
    heat[0] = (heat[0] * 8).round() / 8  # many of one height
    maps = DenseMaps({"heatmaps": heat, "tags": torch.stack([heat * 3, heat - 1], dim=-1)}, ())
    expected = extractor(maps)
    found = run_onnx(path, backend, {"heatmaps": maps.heatmaps.numpy(), "tags": maps.tags.numpy()})
    peaks = Peaks(*map(torch.from_numpy, found))
    torch.testing.assert_close(peaks.scores, expected.scores, rtol=0, atol=0)
    exact = slice(None) if plateaus == "one" else slice(1, None)  # with "all", of equal peaks any come first
    for name in ("positions", "tags"):
        ours, theirs = getattr(peaks, name)[exact], getattr(expected, name)[exact]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert higher_than_the_last(peaks) == higher_than_the_last(expected)


def higher_than_the_last(peaks: Peaks) -> list[set[tuple[float, ...]]]:
    """Peaks of the first image, by keypoint, that are higher than the last one kept."""
    rows = zip(peaks.scores[0], peaks.positions[0], peaks.tags[0], strict=True)
    return [
        {
            (float(score), *at.tolist(), *tag.tolist())
            for score, at, tag in zip(*row, strict=True)
            if score > row[0][-1]
        }
        for row in rows
    ]


def run_onnx(path: Path, backend: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    if backend == "onnxruntime":
        import onnxruntime

        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, arrays)
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(model(arrays).values())
