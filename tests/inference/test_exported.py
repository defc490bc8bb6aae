"""An exported network finds the same poses as PyTorch, in every backend."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from swahr.aggregate import Aggregator
from swahr.grouping import PeakExtractor
from swahr.inference import TorchNetwork, export_network, open_exported
from swahr.inference.export import OUTPUTS
from swahr.inference.peaks import GraphPeaks
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
        assert tuple(found) == OUTPUTS
        maps = aggregate.look(TorchNetwork(network, device="cpu"), images)
        for name, expected in (("heatmaps", maps.heatmaps), ("tags", maps.tags), ("scales", maps.scales)):
            assert expected is not None
            atol = TOLERANCE[precision] * float(expected.abs().max())
            torch.testing.assert_close(found[name], expected, rtol=0, atol=atol)
        if precision == "fp32":
            peaks = PeakExtractor()(maps)
            atol = TOLERANCE[precision] * float(peaks.scores.max())
            torch.testing.assert_close(found["peak_scores"], peaks.scores, rtol=0, atol=atol)
            sure = peaks.scores > 0
            distance = (found["peak_positions"] - peaks.positions)[sure].abs().amax(dim=1)
            assert (distance > 0).float().mean() < 0.01  # peaks of all but equal height may change places


def test_a_network_without_scale_head_has_no_such_output(make_network, tmp_path):
    needs("onnxruntime")
    path = export(tmp_path, make_network(scale_head=False), Aggregator(COCO.flip_permutation, flip=False))
    found = open_exported(path, backend="onnxruntime", precision="fp32")(torch.zeros(1, 3, 64, 64).byte())
    assert tuple(found) == OUTPUTS[:-1]
    assert found["tags"].shape[-1] == 1


def test_several_test_scales_are_refused(make_network, tmp_path):
    with pytest.raises(ValueError, match=r"add 'aggregate\.test_scales=\[1\.0\]'"):
        export(tmp_path, make_network(), Aggregator(COCO.flip_permutation, test_scales=(0.5, 1.0)))
    assert list(tmp_path.iterdir()) == []


def test_what_a_backend_lacks_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"expected precision fp32 in onnxruntime, got 'bf16'"):
        open_exported(tmp_path / "x.onnx", backend="onnxruntime", precision="bf16")
    with pytest.raises(ValueError, match="expected backend onnxruntime or openvino, got 'tvm'"):
        open_exported(tmp_path / "x.onnx", backend="tvm", precision="fp32")
    monkeypatch.setattr("swahr.inference.exported.find_spec", lambda name: None)
    for backend, extra in (("onnxruntime", "onnx"), ("openvino", "openvino"), (None, "onnx")):
        with pytest.raises(ImportError, match=rf"pip install 'swahr\[{extra}\]'"):
            open_exported(tmp_path / "x.onnx", backend=backend, precision="fp32")


@pytest.mark.parametrize("plateaus", ["one", "all"])
def test_the_graph_finds_the_peaks_that_the_extractor_finds(plateaus):
    heat = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    heat[0] = (heat[0] * 8).round() / 8  # many of one height
    maps = DenseMaps(heat, torch.stack([heat * 3, heat - 1], dim=-1), None, ())
    extractor = PeakExtractor(max_people=40, threshold=0.3, plateaus=plateaus)
    found, expected = GraphPeaks(extractor)(maps), extractor(maps)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=0)
    sure = expected.scores > 0
    sure[0] = False
    for name in ("positions", "tags"):
        torch.testing.assert_close(getattr(found, name)[sure], getattr(expected, name)[sure], rtol=0, atol=0)
    if plateaus == "one":  # which of many equal peaks come first, or at all, is anybody's
        assert _sure(found) == _sure(expected)


def _sure(peaks: Peaks) -> list[set[tuple[float, float, float]]]:
    """Peaks of the first image, by keypoint, that are higher than the last one kept."""
    rows = zip(peaks.scores[0].tolist(), peaks.positions[0].tolist(), strict=True)
    return [
        {(score, *at) for score, at in zip(scores, positions, strict=True) if score > scores[-1]}
        for scores, positions in rows
    ]
