"""The heatmap loss where it is cheap: on a CPU, nearly all pixels lie off every keypoint's support.

Off the support of the base target ({h > 0}, a few percent of the pixels) the target is 0 and the scale map
has no meaning, so that one term of the prediction alone is left. Only the support needs the formulas of
`swahr.loss.heatmap`. The sums are the same as those of the dense form, which GPUs run (finding the support's
pixels would make them wait).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from swahr.loss.heatmap import ScaleTarget, adapted_target, derived_weight


class _SumOfPowers(torch.autograd.Function):
    """The sum over all but the first axis of |x|^n, n being 2 or 3, with a backward pass of one product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, power: int) -> Tensor:
        inner = x if power == 2 else x * x.abs()
        ctx.save_for_backward(inner)
        ctx.power = power
        return (inner * x).sum(dim=(1, 2, 3))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inner,) = ctx.saved_tensors
        return inner * (ctx.power * gradients[0])[:, None, None, None], None


def sums_by_support(
    predictions: Float[Tensor, "b k h w"],
    scale_map: Float[Tensor, "b k h w"] | None,
    heatmaps: Float[Tensor, "b k h w"],
    valid: Bool[Tensor, "b h w"],
    scale_target: ScaleTarget,
    gamma: float | None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Per image: the mean weighted squared error, and the mean of alpha^2 (over all k h w pixels).

    Args:
        predictions: P.
        scale_map: the network's; None if ``scale_target`` is ``none``.
        heatmaps: the base target h.
        valid: False where nothing is learned.
        scale_target: how alpha adapts h.
        gamma: exponent of the derived weight; None for the plain squared error.
    """
    count = predictions[0].numel()
    on_support = heatmaps > 0
    off_support = predictions.contiguous().masked_fill(on_support | ~valid[:, None], 0.0)
    background: Tensor = _SumOfPowers.apply(off_support, 2 if gamma is None else 3)  # type: ignore[no-untyped-call] # torch's
    places = (on_support & valid[:, None]).flatten().nonzero().squeeze(1)
    image = places.div(count, rounding_mode="floor")

    def per_image(values: Tensor) -> Tensor:
        return values.new_zeros(len(predictions)).index_add(0, image, values)

    found, wanted = predictions.flatten()[places], heatmaps.flatten()[places]
    weight = 1.0 if gamma is None else derived_weight(found, wanted, gamma)
    regulariser = predictions.new_zeros(len(predictions))
    if scale_map is not None and scale_target != "none":
        alpha = scale_map.flatten()[places]
        wanted = adapted_target(wanted, alpha, scale_target)
        regulariser = per_image(alpha.square())
    foreground = per_image((found - wanted).square() * weight)
    return (background + foreground) / count, regulariser / count
