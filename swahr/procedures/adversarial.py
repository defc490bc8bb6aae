"""Adversarial training of pose networks (Chen et al., Adversarial PoseNet, ICCV 2017).

`swahr.second_stage.discriminators` has the labels and losses, `docs/adversarial.md` the equations.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from swahr.choices import check_choice
from swahr.execution import finite_check
from swahr.geometry import Alignment
from swahr.procedures.person import PersonModule
from swahr.second_stage.discriminators import (
    ZeroFor,
    confidence_labels,
    discriminator_loss,
    generator_loss,
    person_sizes,
    pose_labels,
)
from swahr.structures import ABSENT, Batch, MapTargets, NamedMaps, NetworkOutput
from swahr.targets.pixels import map_indices
from swahr.training.module import PoseModule

Normalise = Literal["person", "map"]
_JUDGED = ("heatmaps", "occlusion")
_CONFLICTS = {"gradient_clip_val": (None, 0), "accumulate_grad_batches": (1,)}


class AdversarialModule(PoseModule):
    """Trains a network, the generator, against two discriminators of its finest maps.

    Every batch trains the discriminators first, and then the generator against the changed ones. With
    accumulation, both kinds step at the end of a window. Pixels that the loss ignores are 0 in all maps.

    Args:
        pose_discriminator: builds P from ``maps``, the number of maps per keypoint.
        confidence_discriminator: builds C, likewise.
        alignment: position of the maps on the input (of the targets).
        alpha: weight of C's part in the generator's loss, beside half of the squared differences, summed over
            all pixels of the maps; the criterion is a mean over them (published code: 1/220).
        beta: weight of P's part, likewise (published code: 1/180).
        delta: largest distance of a right keypoint, as a part of the person's or the map's size.
        normalise: that size: the longer side of the box of a ``person``'s keypoints, or of the ``map``.
        epsilon: largest difference of a right heatmap from its target.
        zero_for: what has no adversarial loss, see `swahr.second_stage.discriminators.ZeroFor`.
        discriminator_lr: the discriminators' learning rate; all else is as in ``optimiser``.
        gradient_clip_val: largest norm of the gradients of the generator, and of the discriminators; None for
            no limit.
        accumulate_grad_batches: number of batches per step.
        parts: those of `PoseModule`.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        pose_discriminator: Callable[..., nn.Module],
        confidence_discriminator: Callable[..., nn.Module],
        alignment: Alignment,
        alpha: float = 1 / 220,
        beta: float = 1 / 180,
        delta: float = 0.1,
        normalise: Normalise = "person",
        epsilon: float = 0.3,
        zero_for: ZeroFor = "sample",
        discriminator_lr: float = 2e-3,
        gradient_clip_val: float | None = 5.0,
        accumulate_grad_batches: int = 1,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        check_choice("training.module.normalise", normalise, get_args(Normalise))
        check_choice("training.module.zero_for", zero_for, get_args(ZeroFor))
        if min(alpha, beta) < 0 or min(delta, epsilon, discriminator_lr, accumulate_grad_batches) <= 0:
            raise ValueError(
                "training.module: expected alpha and beta of at least 0, and delta, epsilon, "
                f"discriminator_lr and accumulate_grad_batches above 0, got {alpha}, {beta}, {delta}, "
                f"{epsilon}, {discriminator_lr} and {accumulate_grad_batches}"
            )
        if gradient_clip_val is not None and gradient_clip_val <= 0:
            raise ValueError(
                "training.module.gradient_clip_val: expected a norm above 0, or null for no limit, got "
                f"{gradient_clip_val}"
            )
        self.automatic_optimization = False
        needs: Any = self.criterion.needs  # an attribute of ours
        self.judged = [name for name in _JUDGED if name in needs | {"heatmaps"}]
        builders = {"pose": pose_discriminator, "confidence": confidence_discriminator}
        built = {name: build(maps=len(self.judged)) for name, build in builders.items()}
        self.discriminators = nn.ModuleDict(built)
        self.weights = {"pose": beta, "confidence": alpha}
        self.alignment: Alignment = alignment
        self.delta, self.normalise, self.epsilon = delta, normalise, epsilon
        self.zero_for: ZeroFor = zero_for
        self.discriminator_lr = discriminator_lr
        self.clip, self.window = gradient_clip_val, accumulate_grad_batches

    def configure_callbacks(self) -> Sequence[Callback]:
        """Check the Trainer, as the first of Lightning's hooks; there are no callbacks.

        Raises:
            ValueError: it clips or accumulates gradients itself, scales losses, or has several processes.
        """
        for name, accepted in _CONFLICTS.items():
            if (value := getattr(self.trainer, name)) not in accepted:
                raise ValueError(
                    f"trainer.{name}: expected {'null' if None in accepted else accepted[0]} in adversarial "
                    f"training, which steps two optimisers, got {value}; set training.module.{name} instead"
                )
        if self.trainer.precision == "16-mixed":
            raise ValueError(
                "trainer.precision: expected 32-true or bf16-mixed in adversarial training, whose two losses "
                "cannot share the scale that float16 needs, got 16-mixed"
            )
        if self.trainer.world_size > 1:
            raise ValueError(
                "trainer.devices: expected 1 in adversarial training, as DDP does not synchronise two "
                f"backward passes per batch, got {self.trainer.world_size} processes"
            )
        return []

    def training_step(self, batch: Batch, index: int) -> None:  # type: ignore[override] # Lightning takes both
        """Train the discriminators, then the generator."""
        targets, stacks = self.encode_targets(batch), _all_stacks(self.network, batch)
        target = targets.maps[-1]
        fake = _joined(stacks[-1][-1], target, self.judged)
        with torch.no_grad():
            labels = self._labels(batch, target, fake.detach())
        is_end = (index + 1) % self.window == 0 or self.trainer.is_last_batch
        self._train_discriminators(batch, _joined(target, target, self.judged), fake.detach(), labels, is_end)
        parts = [self.criterion(output, targets) for output in stacks]
        terms = {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}
        self.discriminators.requires_grad_(False)
        half = fake[0].numel() / (2 * len(self.judged))  # the paper's L_G over the mean squared difference
        for name, judge in self.discriminators.items():
            away = generator_loss(judge(batch.images, fake), labels[name], zero_for=self.zero_for)
            terms[f"{name}_adversarial"] = self.weights[name] / half * away
        self.discriminators.requires_grad_(True)
        loss = self._backward(terms, batch)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=len(batch))
        if is_end:
            optimiser = self.optimizers()[0]  # type: ignore[index] # a list of two
            optimiser.step()
            self._after_step(optimiser, 0)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients of the step's own parameters."""
        if self.clip is not None:
            own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(own, self.clip)

    def configure_optimizers(self) -> Any:
        """One optimiser and schedule for network and loss, and one for both discriminators."""
        _ = self.trainer.estimated_stepping_batches  # also sets num_training_batches
        batches = int(self.trainer.num_training_batches)
        size = self.batch_size * min(self.window, batches)
        return [
            {"optimizer": found[0], "lr_scheduler": {"scheduler": found[1], "interval": "step"}}
            for found in (
                build(module, batch_size=size, steps_per_epoch=math.ceil(batches / self.window))
                for build, module in (
                    (self.optimiser, nn.ModuleList([self.network, self.criterion])),
                    (replace(self.optimiser, lr=self.discriminator_lr), self.discriminators),
                )
            )
        ]

    def _labels(self, batch: Batch, target: MapTargets, fake: Tensor) -> dict[str, Tensor]:
        """p_fake and c_fake, by the discriminators' names."""
        heatmaps = fake[:, : batch.keypoints.shape[2]].to(target.heatmaps.dtype)
        labelled = batch.visibility != ABSENT
        sizes = person_sizes(batch.keypoints, labelled)
        if self.normalise == "map":
            sizes = torch.full_like(sizes, max(batch.valid.shape[1:]))
        radius = (self.delta * sizes / target.stride).clamp(min=1)  # positions are no finer than a pixel
        positions = map_indices(batch.keypoints, target.stride, self.alignment)
        real = _joined(target, target, ["heatmaps"])
        return {
            "pose": pose_labels(heatmaps, positions, labelled, radius),
            "confidence": confidence_labels(heatmaps, real, epsilon=self.epsilon),
        }

    def _train_discriminators(
        self, batch: Batch, real: Tensor, fake: Tensor, labels: Mapping[str, Tensor], is_end: bool
    ) -> None:
        terms = {
            f"{name}_discriminator": discriminator_loss(
                judge(batch.images, real), judge(batch.images, fake), labels[name]
            )
            for name, judge in self.discriminators.items()
        }
        self._backward(terms, batch)
        shares = {f"train/{name}_labels": values.mean() for name, values in labels.items()}
        self.log_dict(shares, on_step=True, on_epoch=False, batch_size=len(batch))
        if is_end:
            optimiser = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index] # a list of two
            # Not by Lightning's wrapper, so that `global_step` and `max_steps` count the generator's steps.
            self.trainer.strategy.optimizer_step(optimiser, lambda: None)
            self._after_step(optimiser, 1)

    def _backward(self, terms: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Log the terms and add their gradients; returns the loss."""
        self._check_finite = finite_check(terms, batch.image_ids)
        means = {name: values.mean() for name, values in terms.items()}
        logged = {f"train/{name}": value.detach() for name, value in means.items()}
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=len(batch))
        loss = torch.stack(list(means.values())).sum()
        self.manual_backward(loss / self.window)
        return loss.detach()

    def _after_step(self, optimiser: Any, index: int) -> None:
        optimiser.zero_grad()
        self.lr_schedulers()[index].step()  # type: ignore[index] # a list of two


class AdversarialPersonModule(AdversarialModule, PersonModule):
    """`AdversarialModule` for a single-person network, validated as by `PersonModule`."""


def _all_stacks(network: nn.Module, batch: Batch) -> Sequence[NetworkOutput]:
    """The outputs of all stacks of a network that has any, else its only output."""
    stacks = getattr(network, "all_stacks", None)
    return (network(*batch.inputs),) if stacks is None else stacks(batch.images)


def _joined(maps: NamedMaps, target: MapTargets, names: Sequence[str]) -> Tensor:
    """Maps of several names as channels, 0 in pixels that the loss ignores."""
    return torch.cat([maps.fields[name] for name in names], dim=1) * target.valid[:, None]
