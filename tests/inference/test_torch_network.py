"""A network prepared for inference predicts the same maps."""

import pytest
import torch

from swahr.inference import TorchNetwork


def test_folded_batch_norm_computes_the_same(make_network, untyped, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes that stays
    network = make_network()
    images = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        plain = network(images)
    folded = TorchNetwork(network, device="cpu")(images)
    for expected, found in zip(plain, folded, strict=True):
        torch.testing.assert_close(found.heatmaps, expected.heatmaps, rtol=1e-4, atol=1e-4)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())  # left as it was


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_half_precision_is_finite_and_near(make_network, precision, channels_last):
    network = make_network()
    images = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    exact = TorchNetwork(network, device="cpu")(images)
    near = TorchNetwork(network, device="cpu", precision=precision, channels_last=channels_last)(images)
    for expected, found in zip(exact, near, strict=True):
        difference = (found.heatmaps.float() - expected.heatmaps).abs().max()
        assert float(difference) < 0.03 * float(expected.heatmaps.abs().max())
        assert float(difference) > 0  # it did compute in another precision


def test_unknown_precision_is_refused(make_network, untyped):
    with pytest.raises(ValueError, match="precision: expected one of 'fp32', 'bf16', 'fp16', got 'int8'"):
        TorchNetwork(make_network(), precision="int8")
