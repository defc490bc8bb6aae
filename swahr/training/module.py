"""The Lightning module: network, targets, criterion, pipeline and evaluator, with no logic of theirs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from swahr.pipeline import PosePipeline
from swahr.structures import Batch, LabelledImage, NetworkOutput, Poses, Targets
from swahr.training.optimiser import AdamWithWarmup

_log = logging.getLogger(__name__)

LossTerms = dict[str, Tensor]


class PoseModule(LightningModule):
    """Trains a network and measures AP on validation images.

    Args:
        network: images to maps.
        encode_targets: batch to targets, on the device of the batch.
        criterion: output and targets to weighted, named loss terms, one value an image.
        pipeline: images to poses, for validation.
        evaluate: poses by image id to named figures, ``AP`` among them.
        optimiser: makes the optimiser and its schedule.
        batch_size: images a device and batch.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        encode_targets: Callable[[Batch], Targets],
        criterion: Callable[[NetworkOutput, Targets], LossTerms],
        pipeline: PosePipeline,
        evaluate: Callable[[dict[int, Poses]], dict[str, float]],
        optimiser: AdamWithWarmup,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.encode_targets = encode_targets
        self.criterion = criterion
        self.pipeline = pipeline
        self.evaluate = evaluate
        self.optimiser = optimiser
        self.batch_size = batch_size
        self.validation_poses: dict[int, Poses] = {}
        self._check_finite: Callable[[], None] = lambda: None

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The sum of the loss terms' means over the batch."""
        terms = self.criterion(self.network(batch.images), self.encode_targets(batch))
        self._check_finite = _finite_check(terms, batch)
        means = {name: values.mean() for name, values in terms.items()}
        loss = torch.stack(list(means.values())).sum()
        logged = {f"train/{name}": value.detach() for name, value in means.items()}
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=len(batch))
        self.log(
            "train/loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False, batch_size=len(batch)
        )
        return loss

    def on_after_backward(self) -> None:
        """See that the loss was finite: now, when a GPU has all of the backward pass to be busy with.

        Raises:
            FloatingPointError: a term was not; the message names the terms and the images.
        """
        self._check_finite()

    def validation_step(self, images: Sequence[LabelledImage], _: int) -> None:
        """Find the people in some validation images."""
        poses = self.pipeline(self.network, [image.image for image in images], self.device)
        self.validation_poses.update(zip((image.image_id for image in images), poses, strict=True))

    def on_validation_epoch_start(self) -> None:
        """Forget the poses of the last validation."""
        self.validation_poses = {}

    def on_validation_epoch_end(self) -> None:
        """Gather the poses of all processes; the first evaluates them and logs the figures as ``val/…``."""
        if self.trainer.world_size > 1:
            gathered: list[dict[int, Poses]] = [{} for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(gathered, self.validation_poses)
            self.validation_poses = {image: poses for part in gathered for image, poses in part.items()}
        if self.trainer.sanity_checking or not self.trainer.is_global_zero:
            return
        figures = self.evaluate(self.validation_poses)
        # The other processes have nothing to log: sync_dist alone would wait for them, and without it
        # Lightning warns of a figure that is not averaged.
        logged: dict[str, Any] = {"sync_dist": True, "rank_zero_only": True}
        self.log("val/AP", figures["AP"], prog_bar=True, **logged)
        self.log_dict({f"val/{name}": value for name, value in figures.items() if name != "AP"}, **logged)

    def configure_optimizers(self) -> Any:
        """The optimiser, with a schedule that advances every optimiser step."""
        trainer = self.trainer
        steps = trainer.estimated_stepping_batches  # also loads the data, so that the next line is known
        _log.debug("%s optimiser steps to come", steps)
        optimiser, schedule = self.optimiser(
            self.network,
            batch_size=self.batch_size * trainer.accumulate_grad_batches * trainer.world_size,
            steps_per_epoch=math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches),
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _finite_check(terms: LossTerms, batch: Batch) -> Callable[[], None]:
    """Start to fetch which values are finite, and return what waits for them and looks."""
    finite = torch.isfinite(torch.stack([value.detach() for value in terms.values()]))
    fetched = finite.to("cpu", non_blocking=finite.is_cuda)
    arrived = torch.cuda.Event() if finite.is_cuda else None  # type: ignore[no-untyped-call] # torch's
    if arrived is not None:
        arrived.record()

    names, image_ids = list(terms), batch.image_ids  # and no more is kept until the next step

    def check() -> None:
        if arrived is not None:
            arrived.synchronize()
        _raise_unless_finite(fetched, names, image_ids)

    return check


def _raise_unless_finite(finite: Tensor, terms: Sequence[str], image_ids: Sequence[int]) -> None:
    if finite.all():
        return
    names = [name for name, row in zip(terms, finite, strict=True) if not row.all()]
    images = [image_id for image_id, column in zip(image_ids, finite.T, strict=True) if not column.all()]
    raise FloatingPointError(
        f"the loss terms {names} are not finite for the images with ids {images}; training stopped "
        "before the weights were touched. Look at these images (`swahr show`), lower "
        "the learning rate, or train with trainer.precision=32-true"
    )
