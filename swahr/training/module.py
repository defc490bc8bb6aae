"""The Lightning module, which connects network, targets, criterion, pipeline and evaluation."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from swahr.execution import finite_check
from swahr.pipeline import PosePipeline
from swahr.rehearsal import rehearsed
from swahr.structures import Batch, LabelledImage, Poses, Targets
from swahr.training.optimiser import AdamWithWarmup

_log = logging.getLogger(__name__)


class PoseModule(LightningModule):
    """Trains a network and measures AP on validation images.

    Args:
        network: predicts maps (`swahr.model.HigherHRNet`).
        encode_targets: computes targets on the batch's device (`swahr.targets.TargetEncoder`).
        criterion: returns weighted loss terms by name, one value per image (`swahr.loss.Criterion`).
        pipeline: predicts poses in validation images (`swahr.pipeline.PosePipeline`).
        evaluate: returns metrics, including ``AP``, of poses by image id (`swahr.evaluation.Evaluator`).
        optimiser: builds the optimiser and its schedule (`swahr.training.AdamWithWarmup`).
        batch_size: number of images per device and batch.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        encode_targets: Callable[[Batch], Targets],
        criterion: nn.Module,
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
        self._cudnn_benchmark = False

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The sum of the loss terms' means over the batch."""
        output, targets = self.network(*batch.inputs), self.encode_targets(batch)
        terms: dict[str, Tensor] = self.criterion(output, targets)
        self._check_finite = finite_check(terms, batch.image_ids)
        means = {name: values.mean() for name, values in terms.items()}
        loss = torch.stack(list(means.values())).sum()
        logged = {f"train/{name}": value.detach() for name, value in means.items()}
        steps: dict[str, Any] = {"on_step": True, "on_epoch": False, "batch_size": len(batch)}
        self.log_dict(logged, **steps)
        self.log("train/loss", loss.detach(), prog_bar=True, **steps)
        return loss

    def on_after_backward(self) -> None:
        """Check that the loss is finite; the wait overlaps the backward pass on a GPU.

        Raises:
            FloatingPointError: it is not; the message lists the terms and the images.
        """
        self._check_finite()

    def validation_step(self, images: Sequence[LabelledImage], _: int) -> None:
        with rehearsed("finding people in the first validation images", on=self.trainer.sanity_checking):
            poses = self.pipeline(self.network, [image.image for image in images], self.device)
        self.validation_poses.update(zip((image.image_id for image in images), poses, strict=True))

    def on_validation_epoch_start(self) -> None:
        """Pause cuDNN's search for the fastest algorithms, which takes seconds for each size of image."""
        self.validation_poses = {}
        self._cudnn_benchmark = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = False

    def on_validation_epoch_end(self) -> None:
        """Gather the poses of all processes; the first one evaluates them and logs ``val/…``."""
        torch.backends.cudnn.benchmark = self._cudnn_benchmark
        if self.trainer.world_size > 1:
            gathered: list[dict[int, Poses]] = [{} for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(gathered, self.validation_poses)
            self.validation_poses = {image: poses for part in gathered for image, poses in part.items()}
        if not self.trainer.is_global_zero:
            return
        with rehearsed("evaluation of the first validation images", on=self.trainer.sanity_checking):
            metrics = self.evaluate(self.validation_poses)
            ap = metrics["AP"]
        if self.trainer.sanity_checking:
            return
        # Only this process logs. With sync_dist alone it would wait for the others; without sync_dist
        # Lightning warns that the metric is not averaged.
        logged: dict[str, Any] = {"sync_dist": True, "rank_zero_only": True}
        self.log("val/AP", ap, prog_bar=True, **logged)
        self.log_dict({f"val/{name}": value for name, value in metrics.items() if name != "AP"}, **logged)

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which advances at every optimiser step."""
        trainer = self.trainer
        _log.debug("%s optimiser steps", trainer.estimated_stepping_batches)  # also sets num_training_batches
        accumulated = min(trainer.accumulate_grad_batches, int(trainer.num_training_batches))
        optimiser, schedule = self.optimiser(
            self,  # terms of the loss may have parameters, too
            batch_size=self.batch_size * accumulated * trainer.world_size,
            steps_per_epoch=math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches),
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
