"""Run by `test_compiled.py` in a process of its own: the checks of shapes cannot be compiled along."""

import copy

import torch
from small_network import small_network

from swahr.execution import prepare_network
from swahr.inference import TorchNetwork


def main() -> None:
    network = small_network(3, heads=("heatmaps", "tags", "scale_maps"), channels=(8, 8))
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(
        TorchNetwork(network, device="cpu", compile=True)(images)[-1].heatmaps,
        TorchNetwork(network, device="cpu")(images)[-1].heatmaps,
        rtol=1e-4,
        atol=1e-4,
    )
    gradients = []
    for compiled in (False, True):
        copied = prepare_network(
            copy.deepcopy(network).train(),
            channels_last=True,
            compile=compiled,
            activation_checkpointing=False,
        )
        (copied(images)[-1].heatmaps.square().mean() * 1e4).backward()
        gradients.append({name: p.grad for name, p in copied.named_parameters() if p.grad is not None})
    expected, found = gradients
    torch.testing.assert_close({name: found[name] for name in expected}, expected, rtol=1e-3, atol=1e-3)


if __name__ == "__main__":
    main()
