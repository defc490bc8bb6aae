"""Averaged weights."""

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from swahr.checkpoint import network_weights


class EmaWeights(WeightAveraging):
    """Exponential moving average of weights and BN statistics, for validation and checkpoints.

    Args:
        decay: final decay per optimiser step. At step n it is at most (1 + n) / (10 + n), so that the first
            steps do not dominate short runs.
    """

    def __init__(self, *, decay: float = 0.998) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            if not averaged[0].is_floating_point():  # BN's batch counters
                torch._foreach_copy_(averaged, current)
                return
            n = float(count)
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(multi_avg_fn=average)
        self._swapped = False

    def averaged_weights(self) -> dict[str, Tensor]:
        """The network's averaged state dict; not to be called during validation."""
        if self._average_model is None:
            raise RuntimeError("averaged weights exist only while a fit is running")
        return network_weights(self._average_model.module.state_dict())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Undo validation's swap of weights, so that a checkpoint can be saved."""
        if self._swapped:
            self._swap_models(pl_module)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped
