"""A small random network."""

import pytest
import torch

from swahr.model import HigherHRNet


def small_network(scale_head: bool = True) -> HigherHRNet:
    """Random, with lively batch statistics, so that folding them matters."""
    torch.manual_seed(0)
    network = HigherHRNet(
        17, scale_head=scale_head, weight_head=True, stem_channels=8, layer1_blocks=1, layer1_channels=4,
        channels=(8, 16, 16, 16), modules=(1, 1, 1), blocks=1, deconv_channels=(8,), deconv_blocks=1,
        modulation_kernel=3, initial_std=None,
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    for head in network.heads:
        torch.nn.init.normal_(head.heatmap.conv.weight, std=0.3)
        if scale_head:
            torch.nn.init.normal_(head.scale_map.smooth.weight, std=0.3)
    return network.eval()


@pytest.fixture(scope="session")
def make_network():
    return small_network
