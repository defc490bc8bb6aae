"""Local maxima of heatmaps: non-maximum suppression in windows, then the best few per keypoint."""

from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from swahr import kernels
from swahr.choices import check_choice
from swahr.structures import DenseMaps, Peaks

Plateaus = Literal["one", "all"]


class PeakExtractor:
    """Finds the best local maxima of every heatmap (Newell et al., Associative Embedding, 2017, section 3.3).

    A pixel is a peak if it equals the maximum of the window around it. Of equal pixels in a window the first
    in reading order is a peak, or with ``all`` each of them. The latter is as in the published code, where a
    keypoint exactly between two pixels is found twice and becomes a second person.

    Args:
        window: odd side of the suppression window, in map pixels.
        max_people: number of peaks kept per keypoint.
        threshold: a peak is higher than this; the others get score 0.
        plateaus: ``one`` or ``all`` equal pixels in a window are peaks.

    Raises:
        ValueError: the window is even, ``max_people`` is not positive, ``plateaus`` is unknown, or the
            threshold is negative with ``all``.
    """

    def __init__(
        self, window: int = 5, max_people: int = 30, threshold: float = 0.1, plateaus: Plateaus = "one"
    ) -> None:
        check_choice("plateaus", plateaus, get_args(Plateaus))
        if window < 1 or window % 2 == 0:
            raise ValueError(f"expected an odd window such as 5, got {window}")
        if max_people < 1:
            raise ValueError(f"expected max_people of at least 1, got {max_people}")
        if plateaus == "all" and threshold < 0:  # suppressed pixels count as 0 there
            raise ValueError(f"expected a threshold of at least 0 with plateaus 'all', got {threshold}")
        self.window, self.max_people, self.threshold = window, max_people, threshold
        self.plateaus: Plateaus = plateaus

    def __call__(self, maps: DenseMaps) -> Peaks:
        """Return ``m = min(max_people, h * w)`` peaks per heatmap, best first. Frame: map.

        Equal peaks are in reading order, or with ``all`` in the order of `torch.topk`, as published.
        """
        if not kernels.accept(maps.heatmaps):
            return self.in_tensors(maps)
        return _read(maps, self._search_on_cpu(maps.heatmaps.detach()))

    def in_tensors(self, maps: DenseMaps) -> Peaks:
        """Return the same peaks by operations of fixed shapes, for ONNX and GPUs (no synchronisation)."""
        return _read(maps, self._search(maps.heatmaps.detach()))

    def _search_on_cpu(self, heatmaps: Float32[Tensor, "b k h w"]) -> Int64[Tensor, "b k m"]:
        """Return the same as `_search`, by loops that read each map once."""
        from swahr.kernels.peaks import best_peaks  # takes a second to import

        b, k, h, w = heatmaps.shape
        planes, count = heatmaps.flatten(0, 1), min(self.max_people, h * w)
        pixels = best_peaks(
            planes.contiguous().numpy(),
            window=self.window,
            threshold=self.threshold,
            count=count + 1,  # one more, to detect a tie with the last peak kept
            first_only=self.plateaus == "one",
        )
        best = torch.from_numpy(pixels)
        if self.plateaus == "all":
            # The kernel returns equal peaks in reading order; the published order is that of `torch.topk`.
            scores = planes.flatten(1).gather(1, best.clamp(min=0))
            tied = ((scores.diff() == 0) & (best[:, 1:] >= 0)).any(dim=1)
            if bool(tied.any()):
                best[tied, :count] = self._search(planes[tied][None])[0]
        return best[:, :count].view(b, k, count)

    def _search(self, heatmaps: Float[Tensor, "b k h w"]) -> Int64[Tensor, "b k m"]:
        """Return the pixels ``y * w + x`` of every map's best peaks, then -1."""
        maximal = _maxima(heatmaps, self.window, self.plateaus)
        count = min(self.max_people, heatmaps.shape[2] * heatmaps.shape[3])
        if self.plateaus == "all":
            scores, index = torch.where(maximal, heatmaps, 0.0).flatten(2).topk(count, dim=2)
            return torch.where(scores > self.threshold, index, -1)
        peaks = maximal & (heatmaps > self.threshold)
        # Two peaks in a block of this side would lie in each other's windows: n blocks hold at most one each.
        in_blocks = partial(F.max_pool2d, kernel_size=self.window // 2 + 1, ceil_mode=True)
        heat = in_blocks(torch.where(peaks, heatmaps, -torch.inf)).flatten(2)  # (b k n)
        h, w = heatmaps.shape[2:]
        earliness = _earliness(h * w, heatmaps.device).view(h, w)
        earliness = in_blocks(torch.where(peaks, earliness, 0.0)).flatten(2)
        kept = min(count, int(heat.shape[2]))
        best = _best_in_reading_order(heat, earliness, kept)
        return F.pad(torch.where(best > 0, h * w - best, -1.0).long(), (0, count - kept), value=-1)


def _maxima(heatmaps: Float[Tensor, "b k h w"], window: int, plateaus: Plateaus) -> Bool[Tensor, "b k h w"]:
    """Return which pixels are the maximum of the window around them: of equal pixels all, or the first."""
    maximal = heatmaps == _window_maximum(heatmaps, window)
    if plateaus == "all":
        return maximal
    h, w = heatmaps.shape[2:]
    earliness = _earliness(h * w, heatmaps.device).view(h, w) * maximal
    return maximal & (earliness == _window_maximum(earliness, window))


def _window_maximum(maps: Float[Tensor, "b k h w"], window: int) -> Float[Tensor, "b k h w"]:
    """Return the maximum of the window around each pixel: along its row, then along its column."""
    rows = F.max_pool2d(maps, (1, window), stride=1, padding=(0, window // 2))
    return F.max_pool2d(rows, (window, 1), stride=1, padding=(window // 2, 0))


def _earliness(pixels: int, device: torch.device) -> Float32[Tensor, " hw"]:
    """Return positive numbers that fall in reading order, exact on maps of up to 2^24 pixels."""
    return torch.arange(pixels, 0, -1, dtype=torch.float32, device=device)


def _best_in_reading_order(
    heat: Float[Tensor, "b k n"], earliness: Float32[Tensor, "b k n"], count: int
) -> Float32[Tensor, "b k m"]:
    """Return the earliness of the ``count`` (m) highest peaks, then 0, with equal peaks in reading order.

    `torch.topk` alone orders and selects equal values arbitrarily. ``heat`` is -inf where there is no peak.
    """
    # Selection: all peaks higher than the m-th, and of those equal to it the first in reading order.
    last = heat.topk(count, dim=2).values[..., -1:]  # (b k 1)
    priority = torch.where(heat > last, torch.inf, torch.where(heat == last, earliness, 0.0))
    index = priority.topk(count, dim=2).indices  # (b k m)
    # Order: a peak's rank is the number of peaks before it, from comparing all pairs, (b k m m).
    heat, earliness = heat.gather(2, index), earliness.gather(2, index)
    higher = heat[:, :, None] > heat[..., None]
    earlier = (heat[:, :, None] == heat[..., None]) & (earliness[:, :, None] > earliness[..., None])
    rank = (higher | earlier).sum(dim=3)
    found = torch.where(heat > -torch.inf, earliness, 0.0)
    return torch.zeros_like(found).scatter(2, rank, found)


def _read(maps: DenseMaps, pixels: Int64[Tensor, "b k m"]) -> Peaks:
    """Return the peaks at pixels ``y * w + x``, where -1 is no peak."""
    if maps.tags is None:
        raise ValueError(
            "expected tag maps for grouping, got none; add a tag head to the network (model.heads), or "
            "decode without grouping (decode._target_)"
        )
    b, k, _, w = maps.heatmaps.shape
    found, index = pixels >= 0, pixels.clamp(min=0)
    y, x = index.div(w, rounding_mode="floor"), index % w
    image = torch.arange(b, device=x.device)[:, None, None]
    keypoint = torch.arange(k, device=x.device)[:, None]
    positions = torch.stack([x, y], dim=3).to(maps.heatmaps.dtype) + 0.5
    return Peaks(
        positions=torch.where(found[..., None], positions, 0.0),
        scores=torch.where(found, maps.heatmaps[image, keypoint, y, x], 0.0),
        tags=torch.where(found[..., None], maps.tags[image, keypoint, y, x], 0.0),
    )
