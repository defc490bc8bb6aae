"""Discriminators of poses, their labels and losses (Chen et al., Adversarial PoseNet, ICCV 2017)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

ZeroFor = Literal["sample", "keypoint"]
"""What has no adversarial loss: samples whose labels are all 1 (published), or every keypoint of label 1."""


class ConfidenceDiscriminator(nn.Module):
    """C: judges for each keypoint whether its maps are annotated or predicted.

    3x3 convolutions of stride 2 with leaky ReLUs, global average pooling, and a linear layer. There is no
    batch norm, whose statistics would tell batches of annotated maps from predicted ones.

    Args:
        num_keypoints: number of scores.
        maps: maps per keypoint: 1, or 2 with occlusion maps.
        channels: channels of each convolution.

    Raises:
        ValueError: there are no convolutions, or one has no channels.
    """

    _others = 0  # channels beside the maps

    def __init__(self, num_keypoints: int, maps: int, channels: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(
                f"{type(self).__name__}: expected the channels of one or more convolutions, got {[*channels]}"
            )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([num_keypoints * maps + self._others, *channels]):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], num_keypoints)

    def forward(
        self,
        images: UInt8[Tensor, "b 3 H W"],  # noqa: ARG002 - which P reads
        maps: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, "b k"]:
        """Return one logit per keypoint, in float32 or wider; its sigmoid is the published score.

        Args:
            images: the images. C does not look at them.
            maps: the heatmaps of all keypoints and, where there are any, their occlusion maps.
        """
        return self._logits(maps)

    def _logits(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(self.convolutions(maps).mean(dim=(2, 3)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class PoseDiscriminator(ConfidenceDiscriminator):
    """P: judges for each keypoint whether its maps fit the image, which is resized to the maps' size."""

    _others = 3

    def forward(
        self, images: UInt8[Tensor, "b 3 H W"], maps: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b k"]:
        """Return one logit per keypoint; see `ConfidenceDiscriminator`."""
        # In float32 for all maps: rounding of predicted maps alone, in half precision, would give them away.
        wide = images.to(torch.promote_types(maps.dtype, torch.float32))
        small = F.interpolate(wide, size=maps.shape[-2:], mode="area")
        return self._logits(torch.cat([small / 127.5 - 1, maps.to(wide.dtype)], dim=1))


def pose_labels(
    heatmaps: Float[Tensor, "b k h w"],
    positions: Float[Tensor, "b p k 2"],
    labelled: Bool[Tensor, "b p k"],
    radius: Float[Tensor, "b p"],
) -> Float[Tensor, "b k"]:
    """Return p_fake: 1 where a predicted heatmap has its maximum at the annotated position, else 0.

    For one person: 1 if the distance of the maximum from the position is below ``radius``. For several: 1 if
    within the radius of each person's position there is a higher value than anywhere outside all radii, so
    that no false peak is as high as a right one. A keypoint that nobody has labelled has 1.

    Args:
        heatmaps: predicted heatmaps.
        positions: annotated positions (x, y), as real-valued pixel indices of the heatmaps.
        labelled: which positions are annotated.
        radius: each person's largest distance, in pixels.
    """
    height, width = heatmaps.shape[-2:]
    y = torch.arange(height, device=heatmaps.device)[:, None]
    x = torch.arange(width, device=heatmaps.device)
    weakest = heatmaps.new_full(heatmaps.shape[:2], torch.inf)
    elsewhere = torch.ones_like(heatmaps, dtype=torch.bool)
    for person in range(positions.shape[1]):  # one at a time: (b p k h w) can be too large
        across, down = positions[:, person, :, :, None, None].unbind(dim=2)
        is_near = (x - across).square() + (y - down).square() < radius[:, person, None, None, None].square()
        is_near &= (is_there := labelled[:, person])[:, :, None, None]
        own = heatmaps.masked_fill(~is_near, -torch.inf).amax(dim=(2, 3))
        weakest = torch.where(is_there, torch.minimum(weakest, own), weakest)
        elsewhere &= ~is_near
    return (weakest > heatmaps.masked_fill(~elsewhere, -torch.inf).amax(dim=(2, 3))).to(heatmaps.dtype)


def person_sizes(
    keypoints: Float[Tensor, "b p k 2"], labelled: Bool[Tensor, "b p k"]
) -> Float[Tensor, "b p"]:
    """Return the longer side of the box of each person's labelled keypoints; 0 without any."""
    is_there = labelled[..., None]
    high = keypoints.masked_fill(~is_there, -torch.inf).amax(dim=2)
    low = keypoints.masked_fill(~is_there, torch.inf).amin(dim=2)
    return (high - low).amax(dim=-1).clamp(min=0)


def confidence_labels(
    heatmaps: Float[Tensor, "b k h w"], targets: Float[Tensor, "b k h w"], *, epsilon: float
) -> Float[Tensor, "b k"]:
    """Return c_fake: 1 where a predicted heatmap differs by less than ``epsilon`` from its target, else 0.

    The norm is the maximum over pixels. Unlike a mean, it depends neither on the map's size nor on how many
    people are right beside one who is wrong.
    """
    return ((heatmaps - targets).abs().amax(dim=(2, 3)) < epsilon).to(heatmaps.dtype)


def log_agreement(logits: Float[Tensor, "b k"], labels: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Return log(1 - |score - label|) for labels 0 and 1, without overflow; scores are sigmoids of logits.

    That is log(score) for 1 and log(1 - score) for 0: minus the binary cross entropy.
    """
    return -F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def discriminator_loss(
    real: Float[Tensor, "b k"], fake: Float[Tensor, "b k"], labels: Float[Tensor, "b k"]
) -> Float[Tensor, " b"]:
    """Return minus L_P, or minus L_C, per image: the means over keypoints of both logarithms, negated.

    Args:
        real: logits of annotated maps, whose labels are 1.
        fake: logits of predicted maps.
        labels: labels of predicted maps.
    """
    return -(log_agreement(real, torch.ones_like(real)) + log_agreement(fake, labels)).mean(dim=1)


def generator_loss(
    fake: Float[Tensor, "b k"], labels: Float[Tensor, "b k"], *, zero_for: ZeroFor = "sample"
) -> Float[Tensor, " b"]:
    """Return the part of L_P, or L_C, that the generator changes, per image; 0 where labels are all 1.

    The generator minimises it, so that scores move away from their labels.

    Args:
        fake: logits of predicted maps.
        labels: labels of predicted maps.
        zero_for: see `ZeroFor`.
    """
    counts = labels < 1
    if zero_for == "sample":
        counts = counts.any(dim=1, keepdim=True).expand_as(counts)
    return torch.where(counts, log_agreement(fake, labels), 0.0).mean(dim=1)
