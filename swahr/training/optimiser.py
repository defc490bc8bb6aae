"""Adam with a per-iteration warm-up, and a learning rate that says which batch it was meant for."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

_log = logging.getLogger(__name__)

Decay = Literal["linear", "step", "constant"]


class AdamWithWarmup:
    """Adam; linear warm-up over the first epochs, then linear decay to 0 or steps (SWAHR; HigherHRNet).

    Args:
        lr: learning rate for ``reference_batch`` images an optimiser step.
        reference_batch: the batch for which ``lr`` is stated, or None to take ``lr`` as it is.
        weight_decay: L2 penalty (0 in the published runs).
        epochs: length of the whole schedule, whatever part of it one run covers.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_start: factor on the learning rate at the first iteration of the warm-up.
        decay: ``linear`` to 0 at the last iteration, ``step`` by 0.1 at each milestone, or ``constant``.
        milestones: epochs at which ``step`` divides the rate by 10.

    Raises:
        ValueError: an unknown ``decay``, or one without the epochs it needs.
    """

    def __init__(
        self,
        *,
        lr: float,
        reference_batch: int | None,
        weight_decay: float,
        epochs: int,
        warmup_epochs: float,
        warmup_start: float,
        decay: Decay,
        milestones: Sequence[int],
    ) -> None:
        if decay not in get_args(Decay):
            raise ValueError(f"training.optimiser.decay: expected one of {get_args(Decay)}, got {decay!r}")
        if decay == "linear" and epochs <= 0:
            raise ValueError(
                f"training.optimiser.epochs: expected the length of the schedule, got {epochs}; without "
                "trainer.max_epochs it has to be given"
            )
        if decay == "step" and not tuple(milestones):
            raise ValueError("training.optimiser.milestones: expected epochs at which to step, got none")
        self.lr = lr
        self.reference_batch = reference_batch
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self.warmup_start = warmup_start
        self.decay = decay
        self.milestones = sorted(milestones)

    def __call__(self, network: nn.Module, *, batch_size: int, steps_per_epoch: int) -> tuple[Adam, LambdaLR]:
        """The optimiser and its schedule, to be stepped once an optimiser step.

        Args:
            network: whose parameters are trained.
            batch_size: images that one optimiser step sees, over all devices and accumulated batches.
            steps_per_epoch: optimiser steps an epoch.
        """
        ratio = batch_size / self.reference_batch if self.reference_batch else 1.0
        _log.info(
            "learning rate %.3g = %.3g x %.3g (batch of %d)", self.lr * ratio, self.lr, ratio, batch_size
        )
        optimiser = Adam(
            network.parameters(), lr=self.lr * ratio, weight_decay=self.weight_decay, foreach=True
        )
        return optimiser, LambdaLR(optimiser, lambda step: self.factor(step / max(1, steps_per_epoch)))

    def factor(self, epoch: float) -> float:
        """The factor on the learning rate at a (fractional) epoch."""
        if epoch < self.warmup_epochs:
            return self.warmup_start + (1 - self.warmup_start) * epoch / self.warmup_epochs
        if self.decay == "linear":
            return max(0.0, self.epochs - epoch) / max(self.epochs - self.warmup_epochs, 1e-9)
        return 0.1 ** bisect_right(self.milestones, epoch) if self.decay == "step" else 1.0
