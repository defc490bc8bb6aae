"""Sub-pixel positions of peaks: the quarter offset, and DARK (Zhang et al., CVPR 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from swahr.structures import Groups

Method = Literal["quarter", "dark", "dark_scale_map", "none"]
Rescale = Literal["maximum", "range"]

_METHODS = ("quarter", "dark", "dark_scale_map", "none")
_SMALLEST = 1e-10  # heat below this is raised to it before the logarithm
_REACH = 2  # pixels that second differences look to each side
_SIGMA_RANGE = (0.5, 2.0)  # a person's kernel stays within these multiples of sigma


def quarter_offset(heatmaps: Float[Tensor, "k h w"], index: Int64[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    """A quarter of a pixel towards the higher neighbour, in x and in y; towards -0.25 where they tie.

    Newell et al., "Stacked Hourglass Networks", 2016, section 3.1. ``index`` holds (keypoint, y, x).
    """
    h, w = heatmaps.shape[1:]
    keypoint, y, x = index.unbind(1)
    right = heatmaps[keypoint, y, (x + 1).clamp(max=w - 1)] > heatmaps[keypoint, y, (x - 1).clamp(min=0)]
    below = heatmaps[keypoint, (y + 1).clamp(max=h - 1), x] > heatmaps[keypoint, (y - 1).clamp(min=0), x]
    return torch.stack([right, below], dim=1).to(heatmaps.dtype) * 0.5 - 0.25


def taylor_offset(
    log_heat: Float[Tensor, "n 5 5"],
) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """Offset (x, y) of the extremum of log-heat from the centre of a 5x5 patch: DARK, equations 6 to 9.

    ``-H^-1 g`` with first differences over two pixels and second differences over four. Also returned:
    whether H is negative definite, so that the extremum is a maximum. Where H is singular the offset is 0.
    """
    p = log_heat
    dx, dy = (p[:, 2, 3] - p[:, 2, 1]) / 2, (p[:, 3, 2] - p[:, 1, 2]) / 2
    dxx = (p[:, 2, 4] - 2 * p[:, 2, 2] + p[:, 2, 0]) / 4
    dyy = (p[:, 4, 2] - 2 * p[:, 2, 2] + p[:, 0, 2]) / 4
    dxy = (p[:, 3, 3] - p[:, 1, 3] - p[:, 3, 1] + p[:, 1, 1]) / 4
    determinant = dxx * dyy - dxy**2
    divisor = torch.where(determinant == 0, torch.ones_like(determinant), determinant)
    offset = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=1) / divisor[:, None]
    regular = (determinant != 0)[:, None]
    return torch.where(regular, offset, torch.zeros_like(offset)), (determinant > 0) & (dxx < 0)


def log_modulated_patches(
    heatmaps: Float[Tensor, "k h w"],
    index: Int64[Tensor, "n 3"],
    sigmas: Float[Tensor, " n"],
    *,
    kernel_size: int,
    rescale: Rescale,
) -> Float[Tensor, "n 5 5"]:
    """Logarithm of the modulated heat around each peak: DARK, section 3.2 ("distribution modulation").

    Only what the result depends on is blurred, and its height restored from the peak itself, because several
    people share one map. ``index`` holds (keypoint, y, x), ``sigmas`` the kernels' widths in map pixels. With
    ``maximum`` the heat is multiplied by a factor, with ``range`` the patch's minimum is subtracted first.
    """
    radius = kernel_size // 2 + _REACH
    patches = _patches(heatmaps, index, radius)
    offsets = torch.arange(-radius, radius + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    shifted = offsets[None, None] - offsets[radius - _REACH : radius + _REACH + 1, None]
    kernel = torch.exp(-(shifted**2) / (2 * sigmas[:, None, None] ** 2)) * (shifted.abs() <= kernel_size // 2)
    kernel = kernel / kernel.sum(dim=2, keepdim=True)
    blurred = kernel @ patches @ kernel.mT
    if rescale == "range":
        blurred = blurred - patches.amin(dim=(1, 2), keepdim=True)
    height = patches[:, radius, radius][:, None, None]
    top = blurred.amax(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST)
    return (blurred * height / top).clamp(min=_SMALLEST).log()


def _patches(
    heatmaps: Float[Tensor, "k h w"], index: Int64[Tensor, "n 3"], radius: int
) -> Float[Tensor, "n s s"]:
    """Squares of side ``2 * radius + 1`` around each (keypoint, y, x); 0 outside the map."""
    h, w = heatmaps.shape[1:]
    keypoint, y, x = (part[:, None, None] for part in index.unbind(1))
    step = torch.arange(-radius, radius + 1, device=index.device)
    rows, columns = y + step[None, :, None], x + step[None, None, :]
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    values = heatmaps[keypoint, rows.clamp(0, h - 1), columns.clamp(0, w - 1)]
    return torch.where(inside, values, torch.zeros_like(values))


class SubpixelRefiner:
    """Move every present keypoint from the centre of its pixel to a sub-pixel position.

    ``quarter``: see `quarter_offset`. ``dark``: maximum of a Gaussian fitted to the modulated heat, made safe
    for maps that several people share: blur and height are local to the peak, the offset is limited, and the
    quarter offset takes over within two pixels of the border and where the fit is not a maximum.
    ``dark_scale_map``: the same, with a kernel that follows the width the network adapted the keypoint's
    target to (SWAHR, section 3.2): ``sigma / sqrt(1 + a)`` for the scale map's value ``a`` at the peak,
    within half and twice ``sigma``.
    ``none``: pixel centres.

    DARK belongs on maps of the network's own stride: on bilinearly upsampled ones (aggregation with
    ``project``) second differences vanish within a pixel of the original, and the fit is ill-conditioned.

    Args:
        method: ``quarter``, ``dark``, ``dark_scale_map`` or ``none``.
        sigma: width of the modulation kernel, in map pixels: that of the training target.
        kernel_size: odd side of the modulation kernel, in map pixels.
        rescale: how the blurred heat regains its height: ``maximum`` (h' max h / max h', the published code)
            or ``range`` ((h' - min) max h / (max h' - min), as the paper writes it; for min h' stands the
            lowest heat about the peak).
        max_offset: limit of DARK's offset in x and in y, in map pixels.

    Raises:
        ValueError: an unknown method or rescale, an even kernel, a width or limit that is not positive.
    """

    def __init__(
        self,
        method: Method = "dark",
        sigma: float = 2.0,
        kernel_size: int = 11,
        rescale: Rescale = "maximum",
        max_offset: float = 1.0,
    ) -> None:
        if method not in _METHODS:
            raise ValueError(f"expected method {' or '.join(map(repr, _METHODS))}, got {method!r}")
        if rescale not in ("maximum", "range"):
            raise ValueError(f"expected rescale 'maximum' or 'range', got {rescale!r}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"expected an odd kernel_size such as 11, got {kernel_size}")
        if sigma <= 0 or max_offset <= 0:
            raise ValueError(f"expected positive sigma and max_offset, got {sigma} and {max_offset}")
        self.method = method
        self.sigma = sigma
        self.kernel_size = kernel_size
        self.rescale: Rescale = rescale
        self.max_offset = max_offset

    def __call__(
        self, groups: Groups, heatmaps: Float[Tensor, "k h w"], scale_maps: Float[Tensor, "k h w"] | None
    ) -> Groups:
        """Return the groups with refined positions. Frame: map.

        Raises:
            ValueError: ``dark_scale_map`` without scale maps.
        """
        if self.method == "dark_scale_map" and scale_maps is None:
            raise ValueError(
                "method 'dark_scale_map' needs the scale maps of a network with a scale head, got none; "
                "train with a scale-adaptive loss (SAHR), or set method to 'dark'"
            )
        if self.method == "none" or not groups.present.any():
            return groups
        person, keypoint = np.nonzero(groups.present)
        cell = np.floor(groups.positions[person, keypoint]).astype(np.int64)
        index = torch.from_numpy(np.column_stack([keypoint, cell[:, ::-1]])).to(heatmaps.device)
        offset = quarter_offset(heatmaps, index)
        if self.method != "quarter":
            offset = self._dark_offset(heatmaps, index, scale_maps, fallback=offset)
        positions = groups.positions.copy()
        positions[person, keypoint] = cell + 0.5 + offset.cpu().double().numpy()
        return replace(groups, positions=positions)

    def _dark_offset(
        self,
        heatmaps: Float[Tensor, "k h w"],
        index: Int64[Tensor, "n 3"],
        scale_maps: Float[Tensor, "k h w"] | None,
        *,
        fallback: Float[Tensor, "n 2"],
    ) -> Float[Tensor, "n 2"]:
        log_heat = log_modulated_patches(
            heatmaps,
            index,
            self._sigmas(index, scale_maps),
            kernel_size=self.kernel_size,
            rescale=self.rescale,
        )
        offset, is_maximum = taylor_offset(log_heat)
        last = torch.tensor(heatmaps.shape[1:], device=index.device) - 1
        inside = ((index[:, 1:] >= _REACH) & (index[:, 1:] <= last - _REACH)).all(dim=1)
        limited = offset.clamp(-self.max_offset, self.max_offset)
        return torch.where((is_maximum & inside)[:, None], limited, fallback)

    def _sigmas(
        self, index: Int64[Tensor, "n 3"], scale_maps: Float[Tensor, "k h w"] | None
    ) -> Float[Tensor, " n"]:
        if self.method == "dark" or scale_maps is None:
            return torch.full((len(index),), self.sigma, device=index.device)
        lowest, highest = (self.sigma * factor for factor in _SIGMA_RANGE)
        adapted = scale_maps[tuple(index.unbind(1))].float()
        return (self.sigma * (1 + adapted).clamp(min=_SMALLEST).rsqrt()).clamp(lowest, highest)
