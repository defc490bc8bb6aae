"""How a network runs in training: memory layout, compilation and activation checkpointing."""

import torch
from torch import nn

from swahr.model import recompute_activations


def prepare_network(
    network: nn.Module,
    *,
    channels_last: bool,
    compile: bool,  # noqa: A002 - PyTorch's own word
    activation_checkpointing: bool,
) -> nn.Module:
    """Set the execution options of a network in place, and return it; its outputs stay the same.

    Args:
        network: the network (`swahr.model.HigherHRNet`).
        channels_last: whether weights and activations have the channels-last memory layout.
        compile: whether to compile with TorchInductor at the first call.
        activation_checkpointing: whether the backward pass recomputes activations (`swahr.model.recompute`).

    Raises:
        ValueError: ``compile`` and ``activation_checkpointing`` are both set.
    """
    if compile and activation_checkpointing:
        raise ValueError(
            "training.compile and training.activation_checkpointing exclude each other, because the compiler "
            "decides itself what to recompute; set one of them to false"
        )
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    if activation_checkpointing:
        recompute_activations(network)
    if compile:
        network.compile()
    return network
