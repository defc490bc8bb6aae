# mypose/procedures.py
"""Fine-tuning in two phases: at first all but the backbone, then the whole network."""

from typing import Any

from swahr.training import PoseModule


class FrozenBackbone(PoseModule):
    """Keeps the backbone, including its batch norm statistics, fixed during the first epochs.

    With several devices, add ``trainer.strategy=ddp_find_unused_parameters_true``.

    Args:
        frozen_epochs: number of epochs with a fixed backbone.
        parts: see `swahr.training.PoseModule`.
    """

    def __init__(self, *, frozen_epochs: int, **parts: Any) -> None:
        super().__init__(**parts)
        self.frozen_epochs = frozen_epochs

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze the backbone."""
        learns = self.current_epoch >= self.frozen_epochs
        self.network.backbone.requires_grad_(learns).train(learns)
