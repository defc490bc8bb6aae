"""A small random network."""

import pytest
import torch
from small_network import small_network

from swahr.model import HigherHRNet

HEADS = ("heatmaps", "tags", "scale_maps", "log_weight_maps")


def lively_network(heads: tuple[str, ...] = HEADS) -> HigherHRNet:
    """Random, with lively batch statistics, so that folding them matters."""
    network = small_network(17, heads=heads, channels=(8, 16, 16, 16))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    for built in network.heads:
        for name, last in (("heatmaps", "conv"), ("tags", "conv"), ("scale_maps", "smooth")):
            if name in built:
                torch.nn.init.normal_(getattr(built[name], last).weight, std=0.3)
    return network.eval()


@pytest.fixture(scope="session")
def make_network():
    return lively_network
