"""Training targets: Gaussian heatmaps, the mask of valid pixels, and the pixels where tags are read.

Heatmaps: Newell et al., "Associative Embedding", NeurIPS 2017, sec. 3.1, with the same width in pixels at
every stride as in HigherHRNet (CVPR 2020, sec. 3.3). Unbiased centres: Zhang et al., "Distribution-Aware
Coordinate Representation" (DARK), CVPR 2020, sec. 3.2.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from swahr import kernels
from swahr.choices import check_choice
from swahr.geometry import Alignment
from swahr.structures import ABSENT, Batch, MapTargets, Targets
from swahr.targets.pixels import Centre, centre_pixels, flat_index, map_indices

Pixels = Int64[Tensor, "b p k 2"]
Present = Bool[Tensor, "b p k"]
Patches = Float32[Tensor, "#b #p #k r r"]
"""A Gaussian for every keypoint, or one for all."""
Drawn = tuple[Float32[Tensor, "b k h w"], Int64[Tensor, "b p k"]]
"""The heatmaps of one stride, and each keypoint's pixel ``y * w + x`` (-1: absent or off the map)."""
DrawHeatmaps = Callable[[Present], Float32[Tensor, "b k h w"]]
"""Draws heatmaps of the flagged keypoints of a batch; absent ones are never drawn."""


@runtime_checkable
class ExtraTarget(Protocol):
    """Encodes the target of a further map at one stride (see `TargetEncoder`)."""

    def __call__(self, batch: Batch, stride: int, draw: DrawHeatmaps) -> Float[Tensor, "b c h w"]:
        """Return the target on the batch's device; ``draw`` draws the Gaussians of flagged keypoints."""


class TargetEncoder:
    """Encodes a batch's targets on the device of the batch.

    A keypoint's target is a Gaussian on a square patch of radius int(3 sigma + 1) pixels about its pixel, and
    exactly 0 outside. People are combined by the maximum. Keypoints whose pixel is off the map are left out.

    Args:
        strides: input pixels per map pixel, coarse to fine.
        sigma: deviation of the Gaussian, in map pixels, the same at every stride.
        centre: ``truncated`` centres the Gaussian on a pixel, ``unbiased`` on the real-valued position.
        alignment: position of the maps on the input, see `swahr.geometry.map_from_input`.
        extra: an `ExtraTarget` for each further map, by the map's name.

    Raises:
        ValueError: a parameter is out of range.
    """

    def __init__(
        self,
        strides: Sequence[int],
        sigma: float = 2.0,
        centre: Centre = "unbiased",
        alignment: Alignment = "centre",
        extra: Mapping[str, ExtraTarget] | None = None,
    ) -> None:
        if not strides or min(strides) < 1 or sorted(strides, reverse=True) != list(strides):
            raise ValueError(f"expected positive strides, coarse to fine, got {tuple(strides)}")
        if not sigma > 0:
            raise ValueError(f"expected sigma > 0 pixels, got {sigma}")
        check_choice("targets.centre", centre, get_args(Centre))
        check_choice("targets.alignment", alignment, get_args(Alignment))
        self.strides, self.sigma = tuple(strides), sigma
        self.centre: Centre = centre
        self.alignment: Alignment = alignment
        self.extra = dict(extra or {})

    def __call__(self, batch: Batch) -> Targets:
        """Return heatmaps, mask and further maps per stride, and the pixels where tags are read.

        Raises:
            ValueError: the input's size is not a multiple of a stride, or shapes in the batch do not match.
        """
        _check(batch, self.strides)
        encoded = [self._at_stride(batch, stride) for stride in self.strides]
        return Targets(maps=tuple(maps for maps, _ in encoded), tag_index=encoded[0][1])

    def _at_stride(self, batch: Batch, stride: int) -> tuple[MapTargets, Int64[Tensor, "b p k"]]:
        size = (batch.valid.shape[1] // stride, batch.valid.shape[2] // stride)
        indices = map_indices(batch.keypoints, stride, self.alignment)
        pixels = centre_pixels(indices, self.centre, self.alignment)
        if self.centre == "truncated":
            patches = _patch(self.sigma, batch.valid.device)
        else:
            patches = _patches(pixels - indices, self.sigma)
        draw, present = partial(draw_heatmaps, pixels, patches=patches, size=size), batch.visibility > ABSENT
        heatmaps, index = draw(present)
        fields = {"heatmaps": heatmaps}
        for name, encode in self.extra.items():
            fields[name] = encode(batch, stride, lambda chosen: draw(chosen & present)[0])
        return MapTargets(stride, shrink_mask(batch.valid, size), fields), index


def draw_heatmaps(pixels: Pixels, present: Present, *, patches: Patches, size: tuple[int, int]) -> Drawn:
    """Draw the maximum of all present keypoints' patches, without synchronising a GPU.

    A CPU runs `swahr.kernels.targets.draw`. A GPU draws all in one scatter, absent keypoints as 0.
    """
    if kernels.accept(pixels):
        from swahr.kernels.targets import draw

        centres, flags, gaussians = (part.contiguous().numpy() for part in (pixels, present, patches))
        drawn = draw(centres, flags, gaussians, size)
        return torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1])
    (images, _, num_keypoints), (h, w), device = present.shape, size, pixels.device
    index = flat_index(pixels, present, size)
    around = pixels[..., None] + _offsets(patches.shape[-1] // 2, device)  # (b p k 2 r)
    # Pixels off the map are clamped to its border, where the patch's own value is no smaller.
    x, y = around[..., 0, None, :].clamp(0, w - 1), around[..., 1, :, None].clamp(0, h - 1)
    planes = torch.arange(images * num_keypoints, device=device).view(images, 1, num_keypoints, 1, 1)
    targets = (planes * h + y) * w + x  # (b p k r r), flat over images, keypoints and pixels
    heat = torch.where((index >= 0)[..., None, None], patches, 0.0)
    heatmaps = heat.new_zeros(images, num_keypoints, h, w)
    # As integers: non-negative floats have the order of their bits, and GPUs lack an atomic float maximum.
    bits = heatmaps.view(torch.int32).view(-1)
    bits.scatter_reduce_(0, targets.flatten(), heat.flatten().view(torch.int32), reduce="amax")
    return heatmaps, index


def shrink_mask(valid: Bool[Tensor, "b H W"], size: tuple[int, int]) -> Bool[Tensor, "b h w"]:
    """Return a map's mask, valid where at least half of the input is; a CPU runs `kernels.targets.shrink`."""
    if kernels.accept(valid):
        from swahr.kernels.targets import shrink

        return torch.from_numpy(shrink(valid.contiguous().numpy(), size))
    (h, w), stride = size, valid.shape[-1] // size[1]
    counts = valid.view(len(valid), h, stride, w, stride).sum(dim=(2, 4))
    return counts >= (stride**2 + 1) // 2


def _check(batch: Batch, strides: Sequence[int]) -> None:
    """Check the batch's shapes, as the compiled loops do no bounds checks."""
    parts = (batch.keypoints, batch.visibility, batch.valid)
    people, visibility, valid = (tuple(part.shape) for part in parts)
    if people != (*visibility, 2) or len(visibility) != 3 or valid[:1] != visibility[:1]:
        raise ValueError(
            "expected keypoints (b p k 2), visibility (b p k) and a mask (b H W) of the same images, people "
            f"and keypoints, got {people}, {visibility} and {valid}"
        )
    for stride in strides:
        if valid[1] % stride or valid[2] % stride:
            raise ValueError(
                f"expected an input size that is a multiple of the stride {stride}, got (h, w) = "
                f"{valid[1:]}; choose another input_size"
            )


@lru_cache(maxsize=8)
def _patch(sigma: float, device: torch.device) -> Patches:
    """Return the Gaussian about a pixel's centre, cached per device."""
    squared = _offsets(int(3 * sigma + 1), torch.device("cpu")).double().square()
    # In double precision, from which the published targets are rounded.
    return torch.exp((squared[:, None] + squared) / (-2 * sigma**2)).float().to(device)[None, None, None]


def _patches(shift: Float32[Tensor, "b p k 2"], sigma: float) -> Patches:
    """Return Gaussians whose middle pixels lie ``shift`` (x, y) from their centres."""
    offsets = _offsets(int(3 * sigma + 1), shift.device)
    x, y = torch.exp((shift[..., None] + offsets).square() / (-2 * sigma**2)).unbind(-2)
    return y[..., :, None] * x[..., None, :]


def _offsets(radius: int, device: torch.device) -> Int64[Tensor, " r"]:
    return torch.arange(-radius, radius + 1, device=device)
