"""Activation checkpointing: inner activations are recomputed in the backward pass instead of stored."""

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


def recompute_activations(network: nn.Module) -> None:
    """Switch activation checkpointing on in every `Recomputable` module of a network."""
    for module in network.modules():
        if isinstance(module, Recomputable):
            module.recompute = True
