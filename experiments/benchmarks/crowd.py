"""Random crowds without a network: keypoints, the maps that a network would predict, and batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from swahr.geometry import Affine
from swahr.structures import ABSENT, VISIBLE, Batch, DenseMaps

_SIGMA = 2.0  # of the Gaussians, in pixels of the finest map
_NOISE = 0.01  # standard deviation of the heat of the background
_TAG_SPACING, _TAG_NOISE = 3.0, 0.1


def crowd_keypoints(
    people: int, keypoints: int, size: tuple[int, int], generator: torch.Generator
) -> Float32[Tensor, "p k 2"]:
    """Keypoints of people of many heights, all inside a frame of ``size`` (h, w)."""
    h, w = size
    frame = torch.tensor([float(w), float(h)])
    centre = (0.1 + 0.8 * torch.rand(people, 1, 2, generator=generator)) * frame
    height = h * (0.15 + 0.3 * torch.rand(people, 1, 1, generator=generator))
    spread = (torch.rand(people, keypoints, 2, generator=generator) - 0.5) * torch.tensor([0.6, 1.0])
    return torch.minimum((centre + spread * height).clamp(min=2), frame - 2)


def crowd_maps(
    people: int,
    *,
    keypoints: int,
    size: tuple[int, int],
    project: bool,
    missing: float,
    device: torch.device,
    seed: int,
) -> DenseMaps:
    """Maps of one image as aggregation returns them after a flip test: two tag dimensions.

    The heatmaps have a Gaussian at each keypoint, a faint one at a missing keypoint, over weak noise. The
    tag of a pixel is that of the person whose keypoint is nearest, drawn on maps half as large, with noise.

    Args:
        people: their number.
        keypoints: the number of keypoint types.
        size: (h, w) of the finest maps, stride 2.
        project: enlarge the maps to stride 1.
        missing: share of keypoints without a peak.
        device: of the maps.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    at = crowd_keypoints(people, keypoints, size, generator)
    seen = torch.rand(people, keypoints, generator=generator) >= missing
    height = torch.where(seen, 0.4 + 0.5 * torch.rand(people, keypoints, generator=generator), 0.05)
    coarse = (size[0] // 2, size[1] // 2)
    heat = _gaussians(at, height, size)
    heat += _NOISE * _enlarge(torch.randn(keypoints, *coarse, generator=generator), 2)
    side = int(people**0.5) + 1
    cells = torch.randperm(side * side, generator=generator)[:people]
    person_tags = _TAG_SPACING * torch.stack([cells % side, cells // side]).float()
    owner = _nearest(at / 2, coarse)
    tags = person_tags[:, owner] + _TAG_NOISE * torch.randn(2, keypoints, *coarse, generator=generator)
    factor = 4 if project else 2
    return DenseMaps(
        {
            "heatmaps": _enlarge(heat, factor // 2)[None].to(device),
            "tags": torch.stack([_enlarge(plane, factor) for plane in tags], dim=-1)[None].to(device),
        },
        map_from_image=(Affine.identity(),),
    )


def crowd_batch(
    people: int, *, images: int, keypoints: int, size: tuple[int, int], device: torch.device, seed: int
) -> Batch:
    """A batch of noise images of ``size`` (h, w) with people; a tenth of the keypoints is absent."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.stack([crowd_keypoints(people, keypoints, size, generator) for _ in range(images)])
    absent = torch.rand(at.shape[:-1], generator=generator) < 0.1
    batch = Batch(
        images=torch.randint(256, (images, 3, *size), dtype=torch.uint8, generator=generator),
        keypoints=at,
        visibility=torch.where(absent, ABSENT, VISIBLE),
        valid=_mask(images, size),
        image_ids=tuple(range(images)),
        input_from_image=(Affine.identity(),) * images,
    )
    return batch.to(device)


def _mask(images: int, size: tuple[int, int]) -> Bool[Tensor, "b h w"]:
    valid = torch.ones(images, *size, dtype=torch.bool)
    valid[:, : size[0] // 8, : size[1] // 4] = False
    return valid


def _gaussians(
    at: Float32[Tensor, "p k 2"], height: Float32[Tensor, "p k"], size: tuple[int, int]
) -> Float32[Tensor, "k h w"]:
    heat = torch.zeros(at.shape[1], *size)
    step_y, step_x = (torch.arange(length) + 0.5 for length in size)
    for person, peak in zip(at, height, strict=True):  # one person at a time, to save memory
        x = torch.exp(-(step_x - person[:, :1]).square() / (2 * _SIGMA**2))
        y = torch.exp(-(step_y - person[:, 1:]).square() / (2 * _SIGMA**2)) * peak[:, None]
        heat = torch.maximum(heat, y[:, :, None] * x[:, None, :])
    return heat


def _nearest(at: Float32[Tensor, "p k 2"], size: tuple[int, int]) -> Int64[Tensor, "k h w"]:
    """The index of the person whose keypoint is nearest to each pixel."""
    step_y, step_x = (torch.arange(length) + 0.5 for length in size)
    nearest = torch.full((at.shape[1], *size), torch.inf)
    owner = torch.zeros(at.shape[1], *size, dtype=torch.int64)
    for person, own in enumerate(at):
        squared = (step_y - own[:, 1:]).square()[:, :, None] + (step_x - own[:, :1]).square()[:, None, :]
        owner = torch.where(squared < nearest, person, owner)
        nearest = torch.minimum(nearest, squared)
    return owner


def _enlarge(maps: Float32[Tensor, "k h w"], factor: int) -> Float32[Tensor, "k h2 w2"]:
    return F.interpolate(maps[None], scale_factor=factor, mode="bilinear")[0] if factor > 1 else maps
