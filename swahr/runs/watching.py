"""Callbacks that watch the loss: whether tags come apart, and the foreground's share."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from swahr.loss import Criterion, HeatmapRegression
from swahr.loss.tags import read_people
from swahr.loss.terms import widened
from swahr.structures import NetworkOutput, Targets

_log = logging.getLogger(__name__)

Watch = Callable[[Criterion, NetworkOutput, Targets], None]


def watch_criterion(pl_module: LightningModule, watch: Watch) -> None:
    """Call ``watch`` with the module's criterion and what it is given in training, if there is one."""

    def hook(criterion: Criterion, given: tuple[NetworkOutput, Targets], _: Any) -> None:
        if criterion.training:
            watch(criterion, *given)

    if isinstance(criterion := getattr(pl_module, "criterion", None), Criterion):
        criterion.register_forward_hook(hook)


class WarnOfEqualTags(Callback):
    """Logs ``train/tag_separation``, and warns once if tags do not tell people apart.

    Keypoints of different people will then be mixed.

    Args:
        steps: number of steps after which tags should have come apart.
        every: number of steps between readings, each of which waits for a GPU.
    """

    _READINGS = 3

    def __init__(self, *, steps: int = 500, every: int = 50) -> None:
        self.steps, self.every = steps, every
        self._readings: list[float] = []
        self._last = 0
        self._said = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the separation at every step."""

        def log(_: Criterion, output: NetworkOutput, targets: Targets) -> None:
            if (tags := output[0].tags) is not None:
                pl_module.log("train/tag_separation", tag_separation(tags, targets.tag_index))

        watch_criterion(pl_module, log)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the separation; it is NaN if no image of the batch has two people."""
        step, measured = trainer.global_step, trainer.callback_metrics.get("train/tag_separation")
        if self._said or measured is None or step % self.every or step == self._last:
            return
        self._last = step  # several batches can make one step
        if math.isnan(value := float(measured)):
            return
        self._readings = [*self._readings, value][-self._READINGS :]
        if step >= self.steps and len(self._readings) == self._READINGS and max(self._readings) < 1:
            self._said = True
            _log.warning(
                "tags do not tell people apart after %d steps (train/tag_separation %.2f, expected above 1), "
                "so people will be mixed; choose loss.terms.tags.closeness=laplacian, or raise "
                "loss.terms.tags.push",
                step,
                value,
            )


class ForegroundShare(Callback):
    """Logs the share of the heatmap loss on the foreground, where the target is positive.

    The values of ``foreground/<stride>`` are computed at the steps that are logged.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined] # set by a connector

        def log(criterion: Criterion, output: NetworkOutput, targets: Targets) -> None:
            if (trainer.global_step + 1) % every == 0:
                shares = foreground_shares(criterion, output, targets)
                pl_module.log_dict({f"foreground/{stride}": share for stride, share in shares.items()})

        watch_criterion(pl_module, log)


@torch.no_grad()
def tag_separation(tags: Float[Tensor, "b k h w"], tag_index: Int64[Tensor, "b p k"]) -> Float[Tensor, ""]:
    """Return the mean distance of people's tags over that of a person's tags from their mean.

    About 1 or less: tags do not tell people apart. NaN if no image has two people.
    """
    people = read_people(tags, tag_index)
    distances = people.means.unsqueeze(1) - people.means.unsqueeze(2)
    is_pair = (people.exist.unsqueeze(1) & people.exist.unsqueeze(2)).tril(-1)
    between = torch.where(is_pair, distances.abs(), 0.0).sum() / is_pair.sum()
    within = people.deviations.abs().sum() / (tag_index >= 0).sum()
    return between / within


@torch.no_grad()
def foreground_shares(criterion: Criterion, output: NetworkOutput, targets: Targets) -> dict[int, Tensor]:
    """Return the share of `HeatmapRegression` where targets are positive, by stride."""
    shares: dict[int, Tensor] = {}
    for term in criterion.terms.values():
        if isinstance(term, HeatmapRegression):
            for maps, target in zip(map(widened, output), targets.maps, strict=True):
                errors = term.errors(maps, target) * target.valid[:, None]
                shares[maps.stride] = errors[target.heatmaps > 0].sum() / errors.sum()
    return shares
