"""Execution: kept memory; in training, layout, compilation, checkpointing, and a check that does not wait."""

import ctypes
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_KEPT_MEMORY = {-3: 2**30, -1: 2**31 - 1, -2: 2**27}
"""glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory, instead of returning it and mapping it again page by page.

    On a CPU, a training step of the tiny network takes about a tenth less time, prediction about 5 % less.
    """
    if platform.libc_ver()[0] == "glibc":
        for option, value in _KEPT_MEMORY.items():
            ctypes.CDLL(None).mallopt(option, value)


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


def finite_check(terms: Mapping[str, Tensor], image_ids: Sequence[int]) -> Callable[[], None]:
    """Start an asynchronous copy of which values are finite; returns a function that waits and raises.

    Args:
        terms: loss terms by name, one value per image.
        image_ids: ids of the images, for the error's message.
    """
    finite = torch.isfinite(torch.stack([value.detach() for value in terms.values()]))
    fetched = finite.to("cpu", non_blocking=finite.is_cuda)
    arrived = torch.cuda.current_stream().record_event() if finite.is_cuda else None
    names = list(terms)  # the closure must not keep the terms in memory

    def check() -> None:
        if arrived is not None:
            arrived.synchronize()
        if fetched.all():
            return
        bad_terms = [name for name, row in zip(names, fetched, strict=True) if not row.all()]
        bad_images = [image for image, column in zip(image_ids, fetched.T, strict=True) if not column.all()]
        raise FloatingPointError(
            f"the loss terms {bad_terms} are not finite for the images with ids {bad_images}; training stops "
            "before the weights change. Look at these images (`swahr show`), lower the learning rate, or "
            "train with trainer.precision=32-true"
        )

    return check
