"""The heatmap loss and its gradients on a CPU: one visit of every pixel, by a compiled loop.

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

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from numba import prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from swahr.compiled import compiled
from swahr.loss.heatmap import SMALLEST_EXPONENT, ScaleTarget

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)

_UNTAUGHT = np.float32(-1)
"""Stands for the target where nothing is learned."""


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
    ) -> tuple[Float32[Tensor, " b"], Float32[Tensor, " b"]]:
        """Both terms per image, over all k h w pixels, computed in float32.

        Args:
            predictions: x, in any memory format.
            scale_map: a; None if ``scale_target`` is ``none``.
            heatmaps: h.
            valid: False where nothing is learned, whatever is predicted there.

        Raises:
            ValueError: they are not of one size: the loop does not check indices.
        """
        shape = predictions.shape
        for name, maps in (("scale map", scale_map), ("heatmaps", heatmaps)):
            if maps is not None and maps.shape != shape:
                raise ValueError(f"expected the {name} in the predictions' shape {shape}, got {maps.shape}")
        if valid.shape != (shape[0], *shape[2:]):
            raise ValueError(f"expected a mask of the predictions' size, {shape}, got {valid.shape}")
        x, a = (m if m is None or m.dtype == torch.bfloat16 else m.float() for m in (predictions, scale_map))
        terms: Tensor = _Fused.apply(self, x, a, heatmaps.float(), valid)  # type: ignore[no-untyped-call] # torch's
        return terms[0], terms[1]


class _Fused(torch.autograd.Function):
    """Gradients are made together with the terms, as if these were averaged over the batch and added."""

    @staticmethod
    def forward(ctx: Any, loss: FusedHeatmapLoss, *given: Any) -> Tensor:
        ctx.save_for_backward(*given)
        ctx.loss, images = loss, len(given[0])
        ctx.usual = torch.full((2, images), 1 / max(1, images))
        terms, ctx.gradients = _evaluate(loss, *given, upstream=ctx.usual)
        return terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Float32[Tensor, "2 b"]) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # given away once: whoever has them may change them
        if gradients is None or not (gradients[1] is None or torch.equal(upstream[0], upstream[1])):
            _, gradients = _evaluate(ctx.loss, *ctx.saved_tensors, upstream=upstream)
        elif not torch.equal(upstream[0], ctx.usual[0]):
            factors = (upstream[0] / ctx.usual[0])[:, None, None, None]
            gradients = [None if gradient is None else gradient.mul_(factors) for gradient in gradients]
        pairs = zip(gradients, ctx.needs_input_grad[1:3], strict=True)
        return None, *(gradient if needed else None for gradient, needed in pairs), None, None


def _evaluate(
    loss: FusedHeatmapLoss,
    predictions: Float[Tensor, "b k h w"],
    scale_map: Float[Tensor, "b k h w"] | None,
    heatmaps: Float32[Tensor, "b k h w"],
    valid: Bool[Tensor, "b h w"],
    *,
    upstream: Float32[Tensor, "2 b"],
) -> tuple[Float32[Tensor, "2 b"], list[Float[Tensor, "b k h w"] | None]]:
    """The terms, and the gradients of predictions and scale map for gradients of the terms."""
    x, a = _rows(predictions), None if scale_map is None else _rows(scale_map)
    # NumPy asks for large pages, which are ready in a fraction of the time.
    by_x, by_a = np.empty_like(x), None if a is None else np.empty_like(a)
    images, keypoints, height, width = predictions.shape
    factors = np.array([[loss.error_factor], [loss.regulariser_factor]]) / (keypoints * height * width)
    slopes = (upstream.numpy() * factors).astype(np.float32)
    gamma = None if loss.gamma is None else np.float32(loss.gamma)
    bound = np.float32(SMALLEST_EXPONENT - 1) if loss.scale_target == "exact" else None
    h, sums = heatmaps.contiguous().numpy(), np.empty((2, images * height))
    _visit(x, a, h, valid.contiguous().numpy(), gamma, bound, slopes, sums, by_x, by_a)
    terms = torch.from_numpy(sums.reshape(2, images, height).sum(axis=2) * factors).float()
    return terms, [None if rows is None else _maps(rows, like=predictions) for rows in (by_x, by_a)]


def _rows(maps: Float[Tensor, "b k h w"]) -> Int[np.ndarray, "bh wk"]:
    """The numbers' bits, as NumPy has no bfloat16, and keypoints last, as networks in training have them."""
    b, k, h, w = maps.shape
    rows = maps.detach().permute(0, 2, 3, 1).contiguous().view(b * h, w * k)
    return rows.view(torch.int16 if maps.dtype == torch.bfloat16 else torch.int32).numpy()


def _maps(rows: Int[np.ndarray, "bh wk"], like: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """The reverse, in the same memory: convolutions want gradients in it."""
    b, k, h, w = like.shape
    numbers = torch.from_numpy(rows).view(torch.bfloat16 if rows.itemsize == 2 else torch.float32)
    return numbers.view(b, h, w, k).permute(0, 3, 1, 2)


@compiled(reorder_sums=True, parallel=True)
def _visit(
    x: Int[np.ndarray, "bh wk"],
    a: Int[np.ndarray, "bh wk"] | None,
    targets: Float32[np.ndarray, "b k h w"],
    valid: Bool[np.ndarray, "b h w"],
    gamma: np.float32 | None,
    bound: np.float32 | None,
    slopes: Float32[np.ndarray, "2 b"],
    sums: Float64[np.ndarray, "2 bh"],
    by_x: Int[np.ndarray, "bh wk"],
    by_a: Int[np.ndarray, "bh wk"] | None,
) -> None:
    """Write, row by row of all images, sums of r^2 w and of a^2, and gradients for the ``slopes`` of these.

    Without a, targets are not adapted, without its ``bound`` in Taylor's form; without ``gamma`` all w are 1.
    Within a row there are no branches, so that several pixels are taken at a time.
    """
    images, keypoints, height, width = targets.shape
    for row in prange(images * height):
        image, y = row // height, row % height
        taught = np.empty(width * keypoints, np.float32)
        for k in range(keypoints):
            for column in range(width):
                inside = valid[image, y, column]
                taught[column * keypoints + k] = targets[image, k, y, column] if inside else _UNTAUGHT
        error, regulariser, by_error, by_regulariser = _ZERO, _ZERO, slopes[0, image], slopes[1, image]
        for i in range(len(taught)):
            h, p = taught[i], _read(x, row, i)
            inside, supported = h != _UNTAUGHT, h > _ZERO
            ln_h = _log(h if supported else _ONE)
            r, weight, turn, alpha, bend = p - h, _ONE, _ZERO, _ZERO, _ZERO
            if a is not None:
                alpha = _read(a, row, i) if supported else _ZERO
                adapted, bend = _adapt(h, ln_h, alpha, bound)
                r = p - adapted
            if gamma is not None:
                weight, turn = _weigh(p, _exp(gamma * ln_h) if supported else _ZERO)
            error += r * r * weight if inside else _ZERO
            slope = by_error * (_TWO * r * weight + r * r * turn)
            _write(slope if inside else _ZERO, by_x, row, i)
            if by_a is not None:
                regulariser += alpha * alpha
                slope = _TWO * (by_regulariser * alpha - by_error * r * weight * bend)
                _write(slope if supported else _ZERO, by_a, row, i)
        sums[0, row], sums[1, row] = error, regulariser


@compiled()
def _read(maps: Int[np.ndarray, "bh wk"], row: int, i: int) -> np.float32:
    """Float32 by its bits, or bfloat16, which is the first half of them."""
    missing = np.int32(32 - np.iinfo(maps.dtype).bits)
    return np.int32(np.int32(maps[row, i]) << missing).view(np.float32)


@compiled()
def _write(number: np.float32, maps: Int[np.ndarray, "bh wk"], row: int, i: int) -> None:
    """The reverse; the nearest number is written, of two the even one."""
    bits, missing = np.float32(number).view(np.int32), np.int32(32 - np.iinfo(maps.dtype).bits)
    if missing:
        bits = np.int32(bits + np.int32(0x7FFF) + (bits >> missing & np.int32(1)))
    maps[row, i] = bits >> missing


@compiled()
def _adapt(
    h: np.float32, ln_h: np.float32, a: np.float32, bound: np.float32 | None
) -> tuple[np.float32, np.float32]:
    """The adapted target h' and dh'/da."""
    if bound is None:
        t = _ONE + a * ln_h
        return _HALF * (h + h * t * t), h * t * ln_h
    adapted = h * _exp((a if a > bound else bound) * ln_h)
    return adapted, adapted * ln_h if a >= bound else _ZERO


@compiled()
def _weigh(x: np.float32, q: np.float32) -> tuple[np.float32, np.float32]:
    """The derived weight w and w'."""
    sign = _ONE if x > _ZERO else -_ONE if x < _ZERO else _ZERO
    beyond = _ONE if x > _ONE else -_ONE if x < _ONE else _ZERO
    turn = (_ONE - q) * sign + q * beyond
    return x * turn - q * beyond, turn


@compiled()
def _log(x: np.float32) -> np.float32:
    """Natural logarithm to 1 unit in the last place, for positive, finite, normal x; 0 at 1.

    By Cephes' polynomial for float32 (S. L. Moshier, `logf`) without branches, because a library's function
    cannot be taken of several pixels at a time.
    """
    one, half = np.float32(1), np.float32(0.5)
    bits = np.int32(np.float32(x).view(np.int32) - np.int32(0x3F3504F3))  # of sqrt(1/2)
    exponent = np.float32(np.int32(bits >> np.int32(23)))
    m = np.int32((bits & np.int32(0x7FFFFF)) + np.int32(0x3F3504F3)).view(np.float32) - one
    p = np.float32(7.0376836292e-2)
    p = p * m - np.float32(1.1514610310e-1)
    p = p * m + np.float32(1.1676998740e-1)
    p = p * m - np.float32(1.2420140846e-1)
    p = p * m + np.float32(1.4249322787e-1)
    p = p * m - np.float32(1.6668057665e-1)
    p = p * m + np.float32(2.0000714765e-1)
    p = p * m - np.float32(2.4999993993e-1)
    p = p * m + np.float32(3.3333331174e-1)
    # ln 2 in two parts, of which the first has few bits: its multiples are not rounded.
    small = m * (m * m) * p - exponent * np.float32(2.12194440e-4) - half * (m * m)
    return m + small + exponent * np.float32(0.693359375)


@compiled()
def _exp(x: np.float32) -> np.float32:
    """e^x to 1 unit in the last place, for x from -87 to 88, to which others are moved; NaN stays.

    By Cephes' polynomial (`expf`) in the same way.
    """
    low, high = np.float32(-87), np.float32(88)
    x = low if x < low else x
    x = high if x > high else x
    n: np.float32 = np.rint(x * np.float32(1.44269504088896341))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power: np.float32 = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * (r * r) + r + np.float32(1)) * power
