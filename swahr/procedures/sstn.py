"""Training of single-person networks between spatial transformers (Fang et al., RMPE, ICCV 2017, 3.1)."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.func import functional_call

from swahr.execution import finite_check
from swahr.geometry import Alignment
from swahr.procedures.person import PersonModule
from swahr.second_stage import SpatialTransformerNetwork
from swahr.second_stage.transformer import Theta, sample
from swahr.structures import ABSENT, Batch


class SstnModule(PersonModule):
    """Trains a `SpatialTransformerNetwork`, by the loss of its output and by that of a parallel branch.

    The branch runs the single-person network on the transformed crop. Its weights are the current ones, but
    constants. Its label is the person's pose, moved to the centre of the crop. Only the localisation network
    learns from it: to centre the person.

    Args:
        parallel: whether there is a parallel branch.
        parallel_weight: factor on its loss.
        alignment: that of the targets, which must be ``centre``.
        parts: those of `PersonModule`.

    Raises:
        ValueError: the network has no spatial transformer, the weight is negative, or another alignment.
    """

    network: SpatialTransformerNetwork

    def __init__(
        self,
        *,
        parallel: bool = True,
        parallel_weight: float = 1.0,
        alignment: Alignment = "centre",
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        if not isinstance(self.network, SpatialTransformerNetwork):
            raise ValueError(  # noqa: TRY004 - the configuration is wrong, not a caller's type
                "training=sstn: expected a network with a spatial transformer, got "
                f"{type(self.network).__name__}; choose model=sstn_tiny, or training=person"
            )
        if parallel_weight < 0 or alignment != "centre":
            raise ValueError(
                "training=sstn: expected parallel_weight >= 0 and targets.alignment=centre, got "
                f"{parallel_weight} and {alignment}"
            )
        self.parallel, self.parallel_weight = parallel, parallel_weight

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum of the loss terms' means over the batch, of the network and of the parallel branch."""
        thetas: list[Theta] = []
        watch = self.network.localise.register_forward_hook(lambda *call: thetas.append(call[2]))
        loss = super().training_step(batch, index)
        watch.remove()
        if not self.parallel:
            return loss
        parallel = self.parallel_terms(batch, thetas[0])
        terms = {f"parallel_{name}": values for name, values in parallel.items()}
        checks = (self._check_finite, finite_check(terms, batch.image_ids))

        def check_both() -> None:
            for check in checks:
                check()

        self._check_finite = check_both
        means = {name: values.mean() for name, values in terms.items()}
        logged = {f"train/{name}": value.detach() for name, value in means.items()}
        self.log_dict(logged, on_step=True, on_epoch=False, batch_size=len(batch))
        return loss + torch.stack(list(means.values())).sum()

    def parallel_terms(self, batch: Batch, theta: Theta) -> dict[str, Float[Tensor, " b"]]:
        """The weighted loss terms of the parallel branch per image; only ``theta`` has gradients."""
        person = self.network.network
        images = self.network.sampled(batch.images, theta)
        constants = {name: parameter.detach() for name, parameter in person.named_parameters()}
        constants |= {name: buffer.clone() for name, buffer in person.named_buffers()}  # running statistics
        output = functional_call(person, constants, (images,))
        valid = sample(batch.valid[:, None].to(theta.dtype), theta.detach())[:, 0] > 0.5
        h, w = valid.shape[1:]
        keypoints = centred(batch.keypoints, batch.visibility, (h, w))
        targets = self.encode_targets(replace(batch, keypoints=keypoints, valid=valid))
        terms = self.criterion.forward(output, targets)  # callbacks watch calls, for the network's own maps
        return {name: self.parallel_weight * values for name, values in terms.items()}


def centred(
    keypoints: Float32[Tensor, "b p k 2"], visibility: Int64[Tensor, "b p k"], size: tuple[int, int]
) -> Float32[Tensor, "b p k 2"]:
    """Move every person's keypoints so that the centre of their bounding box is that of ``size`` (h, w)."""
    known = (visibility != ABSENT)[..., None]
    low = torch.where(known, keypoints, torch.inf).amin(dim=2, keepdim=True)
    high = torch.where(known, keypoints, -torch.inf).amax(dim=2, keepdim=True)
    shift = keypoints.new_tensor([size[1], size[0]]) / 2 - (low + high) / 2
    return keypoints + torch.nan_to_num(shift)  # NaN: padding, nobody
