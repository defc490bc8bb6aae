"""Activation checkpointing: keep less for the backward pass, and compute it once more there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Recomputable(nn.Module):
    """A module whose inner activations can be forgotten in training (Chen et al., arXiv:1604.06174).

    Attributes:
        recompute: whether they are. Gradients and running statistics are the same; a step takes about a third
            longer.
    """

    recompute: bool = False

    def forward(self, *inputs: Any) -> Any:
        """What `compute` says."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.compute(*inputs)
        return checkpoint(self.compute, *inputs, use_reentrant=False, context_fn=self._contexts)

    compute: Callable[..., Any]
    """The module's function, in place of ``forward``."""

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._statistics_kept()

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """Running statistics must see each batch once."""
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
    """Switch activation checkpointing on, in every module that can."""
    for module in network.modules():
        if isinstance(module, Recomputable):
            module.recompute = True
