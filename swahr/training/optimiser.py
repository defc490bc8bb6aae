"""Adam with a warm-up per iteration and a learning rate that scales with the batch size."""

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from swahr.choices import check_choice

_log = logging.getLogger(__name__)

Decay = Literal["linear", "step", "constant"]


@dataclass(frozen=True, kw_only=True)
class AdamWithWarmup:
    """Adam with linear warm-up, followed by linear decay to 0 (SWAHR) or by steps (HigherHRNet).

    Args:
        lr: learning rate for ``reference_batch`` images per optimiser step.
        reference_batch: batch size to which ``lr`` refers; None uses ``lr`` for all batch sizes.
        weight_decay: L2 penalty (0 in the published runs).
        epochs: length of the whole schedule.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_start: factor on the learning rate at the first iteration of the warm-up.
        decay: ``linear`` to 0 at the last iteration, ``step`` by 0.1 at each milestone, or ``constant``.
        milestones: epochs at which ``step`` divides the learning rate by 10.

    Raises:
        ValueError: ``decay`` is unknown, or ``epochs`` or ``milestones`` are missing for it.
    """

    lr: float
    reference_batch: int | None
    weight_decay: float
    epochs: int
    warmup_epochs: float
    warmup_start: float
    decay: Decay
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        check_choice("training.optimiser.decay", self.decay, get_args(Decay))
        if self.decay == "linear" and self.epochs <= 0:
            raise ValueError(
                f"training.optimiser.epochs: expected the length of the schedule, got {self.epochs}; set it, "
                "as trainer.max_epochs does not"
            )
        if self.decay == "step" and not self.milestones:
            raise ValueError("training.optimiser.milestones: expected epochs for decay=step, got none")

    def __call__(self, module: nn.Module, *, batch_size: int, steps_per_epoch: int) -> tuple[Adam, LambdaLR]:
        """Return the optimiser and its schedule, which advances at every optimiser step.

        Args:
            module: holds the parameters to train: the network, and those of losses.
            batch_size: images per optimiser step, over all devices and accumulated batches.
            steps_per_epoch: optimiser steps per epoch.
        """
        ratio = batch_size / self.reference_batch if self.reference_batch else 1.0
        lr = self.lr * ratio
        _log.info("learning rate %.3g = %.3g x %.3g (batch of %d)", lr, self.lr, ratio, batch_size)
        optimiser = Adam(module.parameters(), lr=lr, weight_decay=self.weight_decay, foreach=True)
        return optimiser, LambdaLR(optimiser, lambda step: self.factor(step / max(1, steps_per_epoch)))

    def factor(self, epoch: float) -> float:
        """The factor on the learning rate at a (fractional) epoch."""
        if epoch < self.warmup_epochs:
            return self.warmup_start + (1 - self.warmup_start) * epoch / self.warmup_epochs
        if self.decay == "linear":
            return max(0.0, self.epochs - epoch) / max(self.epochs - self.warmup_epochs, 1e-9)
        return 0.1 ** bisect_right(sorted(self.milestones), epoch) if self.decay == "step" else 1.0
