"""How the network computes in training: memory layout, compiled or not, what the backward pass keeps."""

from __future__ import annotations

import torch

from swahr.model import HigherHRNet, recompute_activations


def prepare_network(
    network: HigherHRNet,
    *,
    channels_last: bool,
    compile: bool,  # noqa: A002 - PyTorch's own word
    activation_checkpointing: bool,
) -> HigherHRNet:
    """Change the network so that it computes the same in another way.

    Args:
        network: is changed, and returned.
        channels_last: the memory layout of its weights, which the images follow.
        compile: let TorchInductor make its kernels, when it first runs.
        activation_checkpointing: see `swahr.model.recompute`.

    Raises:
        ValueError: both compiled and checkpointed.
    """
    if compile and activation_checkpointing:
        raise ValueError(
            "training.compile and training.activation_checkpointing exclude each other: the compiler decides "
            "itself what is computed again; leave one of them false"
        )
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    if activation_checkpointing:
        recompute_activations(network)
    if compile:
        network.compile()
    return network
