"""Sub-pixel positions of peaks: the quarter offset, and DARK (Zhang et al., CVPR 2020)."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from swahr.choices import check_choice
from swahr.structures import Groups, ImageMaps

Rescale = Literal["maximum", "range"]
Index = Int64[Tensor, "n 3"]
"""Pixels (keypoint, y, x)."""

_SMALLEST = 1e-10  # heat is at least this before the logarithm
_REACH = 2  # pixels to each side that second differences use
_SIGMA_RANGE = (0.5, 2.0)  # limits of a kernel's width, as multiples of sigma


def quarter_offset(heatmaps: Float[Tensor, "k h w"], index: Index) -> Float[Tensor, "n 2"]:
    """Return a quarter of a pixel towards the higher neighbour, in x and in y; -0.25 where they tie.

    Newell et al., "Stacked Hourglass Networks", 2016, section 3.1.
    """
    h, w = heatmaps.shape[1:]
    keypoint, y, x = index.unbind(1)
    right = heatmaps[keypoint, y, (x + 1).clamp(max=w - 1)] > heatmaps[keypoint, y, (x - 1).clamp(min=0)]
    below = heatmaps[keypoint, (y + 1).clamp(max=h - 1), x] > heatmaps[keypoint, (y - 1).clamp(min=0), x]
    return torch.stack([right, below], dim=1).to(heatmaps.dtype) * 0.5 - 0.25


def taylor_offset(log_heat: Float[Tensor, "n 5 5"]) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """Return the offset (x, y) of log-heat's extremum from the patch's centre (DARK, equations 6 to 9).

    The offset is ``-H^-1 g``, with first differences over two pixels and second differences over four, and 0
    where H is singular. The second result is whether H is negative definite: the extremum is a maximum.
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
    index: Index,
    sigmas: Float[Tensor, " n"],
    *,
    kernel_size: int,
    rescale: Rescale,
) -> Float[Tensor, "n 5 5"]:
    """Return the logarithm of the modulated heat around each peak (DARK, section 3.2).

    As several people share a map, the blur and the restored height are local to each peak. ``sigmas`` are the
    kernels' widths in map pixels; `Dark` documents ``rescale``.
    """
    # Patches (n s s) with s = 2 * radius + 1, and per output row a normalised kernel: (n 5 s).
    radius = kernel_size // 2 + _REACH
    patches = _patches(heatmaps, index, radius)
    offsets = torch.arange(-radius, radius + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    shifted = offsets[None, None] - offsets[radius - _REACH : radius + _REACH + 1, None]
    kernel = torch.exp(-(shifted**2) / (2 * sigmas[:, None, None] ** 2)) * (shifted.abs() <= kernel_size // 2)
    kernel = kernel / kernel.sum(dim=2, keepdim=True)
    blurred = kernel @ patches @ kernel.mT  # (n 5 5)
    if rescale == "range":
        blurred = blurred - patches.amin(dim=(1, 2), keepdim=True)
    height = patches[:, radius, radius][:, None, None]
    top = blurred.amax(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST)
    return (blurred * height / top).clamp(min=_SMALLEST).log()


def _patches(heatmaps: Float[Tensor, "k h w"], index: Index, radius: int) -> Float[Tensor, "n s s"]:
    """Return the squares of side ``2 * radius + 1`` around each pixel; 0 outside the map."""
    h, w = heatmaps.shape[1:]
    keypoint, y, x = (part[:, None, None] for part in index.unbind(1))
    step = torch.arange(-radius, radius + 1, device=index.device)
    rows, columns = y + step[None, :, None], x + step[None, None, :]
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    values = heatmaps[keypoint, rows.clamp(0, h - 1), columns.clamp(0, w - 1)]
    return torch.where(inside, values, torch.zeros_like(values))


class SubpixelMethod(ABC):
    """Moves present keypoints to sub-pixel positions; a subclass of yours is named in ``decode.refine``."""

    def __call__(self, groups: Groups, maps: ImageMaps) -> Groups:
        """Return the groups of one image with refined positions. Frame: map."""
        if not groups.present.any():
            return groups
        person, keypoint = np.nonzero(groups.present)
        cell = np.floor(groups.positions[person, keypoint]).astype(np.int64)
        index = torch.from_numpy(np.column_stack([keypoint, cell[:, ::-1]])).to(maps.heatmaps.device)
        offset = self.offsets(maps, index)
        positions = groups.positions.copy()
        positions[person, keypoint] = cell + 0.5 + offset.cpu().double().numpy()
        return replace(groups, positions=positions)

    @abstractmethod
    def offsets(self, maps: ImageMaps, index: Index) -> Float[Tensor, "n 2"]:
        """Return offsets (x, y), in map pixels, from the centres of the pixels (keypoint, y, x)."""


class PixelCentre(SubpixelMethod):
    """Leaves keypoints at the centres of their pixels."""

    def offsets(self, maps: ImageMaps, index: Index) -> Float[Tensor, "n 2"]:
        return maps.heatmaps.new_zeros(len(index), 2)


class QuarterOffset(SubpixelMethod):
    """A quarter of a pixel towards the higher neighbour, as published; see `quarter_offset`."""

    def offsets(self, maps: ImageMaps, index: Index) -> Float[Tensor, "n 2"]:
        return quarter_offset(maps.heatmaps, index)


class Dark(SubpixelMethod):
    """DARK: the maximum of a Gaussian fitted to the modulated heat about each peak.

    The offset is limited, as several people share a map. The quarter offset is used within two pixels of the
    border and where the fit is not a maximum.

    Use DARK on maps of the network's own stride. On bilinearly upsampled maps (aggregation with ``project``)
    second differences vanish within a pixel of the original, and the fit is ill-conditioned.

    Args:
        sigma: width of the modulation kernel, in map pixels; if not configured, that of the training target.
        kernel_size: odd side of the modulation kernel, in map pixels.
        rescale: how the height is restored after the blur: ``maximum`` (h' max h / max h', the published
            code) or ``range`` ((h' - min) max h / (max h' - min), as in the paper, but min is the lowest heat
            about the peak instead of min h').
        max_offset: limit of the offset in x and in y, in map pixels.

    Raises:
        ValueError: an unknown rescale, an even kernel, or a width or limit that is not positive.
    """

    def __init__(
        self, sigma: float = 2.0, kernel_size: int = 11, rescale: Rescale = "maximum", max_offset: float = 1.0
    ) -> None:
        check_choice("decode.refine.rescale", rescale, get_args(Rescale))
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"expected an odd kernel_size such as 11, got {kernel_size}")
        if sigma <= 0 or max_offset <= 0:
            raise ValueError(f"expected positive sigma and max_offset, got {sigma} and {max_offset}")
        self.sigma, self.kernel_size, self.max_offset = sigma, kernel_size, max_offset
        self.rescale: Rescale = rescale

    def offsets(self, maps: ImageMaps, index: Index) -> Float[Tensor, "n 2"]:
        heatmaps = maps.heatmaps
        log_heat = log_modulated_patches(
            heatmaps, index, self.sigmas(maps, index), kernel_size=self.kernel_size, rescale=self.rescale
        )
        offset, is_maximum = taylor_offset(log_heat)
        last = torch.tensor(heatmaps.shape[1:], device=index.device) - 1
        inside = ((index[:, 1:] >= _REACH) & (index[:, 1:] <= last - _REACH)).all(dim=1)
        limited = offset.clamp(-self.max_offset, self.max_offset)
        return torch.where((is_maximum & inside)[:, None], limited, quarter_offset(heatmaps, index))

    def sigmas(self, maps: ImageMaps, index: Index) -> Float[Tensor, " n"]:
        """Return the width of each peak's modulation kernel, in map pixels."""
        return torch.full((len(index),), self.sigma, device=maps.heatmaps.device)


class DarkWithScaleMap(Dark):
    """DARK with a kernel as wide as the adapted target: ``sigma / sqrt(1 + a)`` (SWAHR, section 3.2).

    ``a`` is the scale map's value at the peak. The width is limited to half and twice ``sigma``.
    """

    def sigmas(self, maps: ImageMaps, index: Index) -> Float[Tensor, " n"]:
        """Return the width of each peak's modulation kernel, in map pixels.

        Raises:
            ValueError: there are no scale maps.
        """
        if maps.scale_maps is None:
            raise ValueError(
                "DarkWithScaleMap: expected the scale maps of a network with a scale head, got none; train "
                "with a scale-adaptive loss (SAHR), or use decode=dark"
            )
        lowest, highest = (self.sigma * factor for factor in _SIGMA_RANGE)
        alpha = maps.scale_maps[tuple(index.unbind(1))].float()
        return (self.sigma * (1 + alpha).clamp(min=_SMALLEST).rsqrt()).clamp(lowest, highest)
