"""How a network runs in training: memory layout, compilation and activation checkpointing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Recomputable(nn.Module):
    """A module whose inner activations can be recomputed in training (Chen et al., arXiv:1604.06174).

    Attributes:
        recompute: whether to do so. Gradients and running statistics stay the same; a step takes about a
            third longer.
        compute: the module's function; subclasses define it in place of ``forward``.
    """

    recompute: bool = False
    compute: Callable[..., Any]

    def forward(self, *inputs: Any) -> Any:
        """Return ``compute(*inputs)``."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.compute(*inputs)
        return checkpoint(self.compute, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._keep_statistics()  # of the computation and the recomputation

    @contextmanager
    def _keep_statistics(self) -> Iterator[None]:
        """Freeze running statistics in the recomputation: they must be updated once per batch."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        try:
            yield
        finally:
            for norm, (momentum, count) in zip(norms, before, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, count


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
        activation_checkpointing: whether the backward pass recomputes activations, in `Recomputable` modules.

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
        for module in network.modules():
            if isinstance(module, Recomputable):
                module.recompute = True
    if compile:
        network.compile()
    return network
