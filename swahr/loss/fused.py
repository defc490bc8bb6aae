"""The heatmap loss and its gradients on a CPU: one visit of the maps, in blocks that stay in its cache.

It says the same as the formulas of `swahr.loss.heatmap` under autograd, which GPUs run; those pass over the
maps again and again, and a CPU waits for memory most of that time. Per pixel, with x the prediction, h the
base target, a the scale map, h' the adapted target, r = x - h' and q = h^gamma::

    w  = (1 - q) |x| + q |x - 1|
    w' = (1 - q) sign(x) + q sign(x - 1),   so that w = x w' - q sign(x - 1)
    d(r^2 w)/dx = 2 r w + r^2 w',   d(r^2 w)/da = -2 r w dh'/da
    taylor:  h' = (h + h t^2) / 2,  dh'/da = h t ln h,  with t = 1 + a ln h
    exact:   h' = h^(1 + a),        dh'/da = h' ln h    (0 below a's bound)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from swahr.loss.heatmap import SMALLEST_EXPONENT, ScaleTarget

_BLOCK = 6 << 14
"""Pixels of a block, for each thread: larger ones leave the cache, smaller ones wait for Python."""

_TINY = torch.finfo(torch.float32).tiny
"""Stands in for h = 0, whose logarithm is infinite; what follows from it is multiplied by 0."""


@dataclass(frozen=True)
class FusedHeatmapLoss:
    """The weighted heatmap term, and the weighted regulariser of the scale map.

    Attributes:
        scale_target: how the scale map adapts the target.
        gamma: exponent of the derived weight; None for the plain squared error.
        error_factor: of the mean weighted squared error.
        regulariser_factor: of the mean of a^2.
    """

    scale_target: ScaleTarget
    gamma: float | None
    error_factor: float
    regulariser_factor: float

    def __call__(
        self,
        predictions: Float[Tensor, "b k h w"],
        scale_map: Float[Tensor, "b k h w"] | None,
        heatmaps: Float[Tensor, "b k h w"],
        valid: Bool[Tensor, "b h w"],
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Both terms per image, over all k h w pixels, in float32 or wider.

        Args:
            predictions: x.
            scale_map: a; None if ``scale_target`` is ``none``.
            heatmaps: h.
            valid: False where nothing is learned.
        """
        terms: Tensor = _Fused.apply(self, predictions, scale_map, heatmaps, valid)  # type: ignore[no-untyped-call] # torch's
        return terms[0], terms[1]


class _Maps(NamedTuple):
    """Maps (b k h w), or a block of them: what is given, and where the gradients of x and a go."""

    x: Tensor
    a: Tensor | None
    h: Tensor
    by_x: Tensor | None
    by_a: Tensor | None

    def block(self, image: int, planes: slice, pixels: slice) -> _Maps:
        """Some pixels of some planes of an image (c n)."""
        return _Maps(*(None if m is None else m[image, planes].flatten(1)[:, pixels] for m in self))  # type: ignore[arg-type] # x and h are there


class _Fused(torch.autograd.Function):
    """Gradients are made together with the loss, for terms that are averaged over the batch; else anew."""

    @staticmethod
    def forward(ctx: Any, loss: FusedHeatmapLoss, *given: Any) -> Tensor:
        ctx.save_for_backward(*given)
        ctx.loss = loss
        images = len(given[0])
        usual = torch.full((2, images), 1 / max(1, images), dtype=_wide(given[0]))
        terms, gradients = _evaluate(ctx, given, usual)
        ctx.usual, ctx.gradients = usual, gradients
        return terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # given away once: whoever has them may change them
        terms = 1 if ctx.loss.scale_target == "none" else 2
        if gradients is None or not torch.equal(upstream[:terms], ctx.usual[:terms]):
            _, gradients = _evaluate(ctx, ctx.saved_tensors, upstream)
        return None, *gradients, None, None


def _wide(values: Tensor) -> torch.dtype:
    """Squares of small errors vanish in half precision."""
    return torch.promote_types(values.dtype, torch.float32)


def _evaluate(
    ctx: Any, given: tuple[Any, ...], upstream: Float[Tensor, "2 b"]
) -> tuple[Float[Tensor, "2 b"], tuple[Tensor | None, Tensor | None]]:
    """The terms, and the gradients of predictions and scale map where they are needed."""
    *inputs, valid = given
    gradients = [
        torch.empty_like(maps, memory_format=torch.contiguous_format) if need and maps is not None else None
        for maps, need in zip(inputs[:2], ctx.needs_input_grad[1:3], strict=True)
    ]
    maps, dtype = _Maps(*inputs, *gradients), _wide(inputs[0])
    scratch = torch.empty(7, _BLOCK * torch.get_num_threads(), dtype=dtype)
    factors = torch.tensor([ctx.loss.error_factor, ctx.loss.regulariser_factor], dtype=torch.float64)
    factors /= maps.x[0].numel()
    slopes = (upstream.T * factors).tolist()
    masked = (~valid).flatten(1).any(dim=1).tolist()
    sums = [[0.0, 0.0] for _ in slopes]
    for image, planes, pixels in _blocks(maps.x.shape, scratch.shape[1]):
        block = maps.block(image, planes, pixels)
        inside = valid.flatten(1)[image : image + 1, pixels].to(dtype) if masked[image] else None
        error, regulariser = _visit(ctx.loss, block, inside, slopes[image], scratch)
        sums[image] = [sums[image][0] + error, sums[image][1] + regulariser]
    terms = torch.tensor(sums, dtype=torch.float64).view(-1, 2) * factors
    return terms.T.to(dtype), (gradients[0], gradients[1])


def _blocks(shape: torch.Size, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Image, planes and pixels of blocks of about ``size`` pixels."""
    images, planes, pixels = shape[0], shape[1], shape[2] * shape[3]
    high, wide = max(1, size // pixels), min(size, pixels)
    for image, first, left in product(range(images), range(0, planes, high), range(0, pixels, wide)):
        yield image, slice(first, first + high), slice(left, left + wide)


def _visit(
    loss: FusedHeatmapLoss,
    block: _Maps,
    inside: Float[Tensor, "1 n"] | None,
    slopes: list[float],
    scratch: Float[Tensor, "7 m"],
) -> tuple[float, float]:
    """Sums of r^2 w and of a^2 in a block, and the gradients of these times their ``slopes``.

    Args:
        loss: which.
        block: what is given, and where gradients go.
        inside: 0 where nothing is learned; None if there is no such place.
        slopes: of the loss with respect to the two sums.
        scratch: memory to work in.
    """
    x, h = block.x.to(scratch.dtype), block.h.to(scratch.dtype)
    log, bend, r, spare, weight, turn, support = scratch[:, : x.numel()].view(7, *x.shape).unbind()
    torch.clamp(h, min=_TINY, out=log).log_()
    torch.sign(h, out=support)
    a = None if block.a is None else block.a.to(x.dtype)
    if a is None:
        torch.sub(x, h, out=r)
    else:
        _adapt(loss.scale_target, x, h, a, log, r, bend, spare)
    if inside is not None:
        r *= inside
        support *= inside
    if loss.gamma is None:
        error = _dot(r, r)
        torch.mul(r, 2 * slopes[0], out=weight if block.by_x is None else block.by_x)
    else:
        _weigh(x, log.mul_(loss.gamma).exp_().mul_(support), weight, turn, spare)
        squared = torch.mul(r, r, out=spare)
        error = _dot(squared, weight)
        r *= weight
        torch.mul(r, 2 * slopes[0], out=weight)
        torch.addcmul(weight, turn, squared, value=slopes[0], out=turn if block.by_x is None else block.by_x)
    if a is None:
        return error, 0.0
    alpha = support.mul_(a)
    regulariser = _dot(alpha, alpha)
    alpha *= 2 * slopes[1]
    torch.addcmul(alpha, r, bend, value=-2 * slopes[0], out=turn if block.by_a is None else block.by_a)
    return error, regulariser


def _adapt(
    form: ScaleTarget,
    x: Float[Tensor, "c n"],
    h: Float[Tensor, "c n"],
    a: Float[Tensor, "c n"],
    log: Float[Tensor, "c n"],
    r: Float[Tensor, "c n"],
    bend: Float[Tensor, "c n"],
    spare: Float[Tensor, "c n"],
) -> None:
    """Fill in r and dh'/da, here ``bend``."""
    if form == "exact":
        torch.clamp(a, min=SMALLEST_EXPONENT - 1, out=spare)
        torch.mul(spare, log, out=bend).exp_().mul_(h)
        torch.sub(x, bend, out=r)
        bend.mul_(log).mul_(spare.eq_(a))
        return
    torch.addcmul(h.new_ones(()), a, log, out=spare)
    torch.mul(h, spare, out=bend)
    torch.sub(x, h, alpha=0.5, out=r).addcmul_(bend, spare, value=-0.5)
    bend *= log


def _weigh(
    x: Float[Tensor, "c n"],
    q: Float[Tensor, "c n"],
    weight: Float[Tensor, "c n"],
    turn: Float[Tensor, "c n"],
    beyond: Float[Tensor, "c n"],
) -> None:
    """Fill in w and w', here ``turn``."""
    torch.sub(x, 1, out=beyond).sign_()
    torch.sign(x, out=turn).lerp_(beyond, q)
    torch.mul(x, turn, out=weight).addcmul_(q, beyond, value=-1)


def _dot(first: Float[Tensor, "c n"], second: Float[Tensor, "c n"]) -> float:
    return float(torch.dot(first.view(-1), second.view(-1)))
