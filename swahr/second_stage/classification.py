"""Heatmaps as the probabilities of a classification: which keypoint a pixel belongs to, or none.

Chu et al., Structured Feature Learning for Pose Estimation, CVPR 2016; docs/structured_features.md.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from swahr.loss import StrideTerm
from swahr.map_kinds import HEATMAPS
from swahr.model import Head
from swahr.structures import Maps, MapTargets

_SMALLEST = 1e-6  # added to probabilities before the logarithm; float32 resolves 1 - p to 1e-7


class SoftmaxHead(Head):
    """Turns the heatmaps z of another head into probabilities: the softmax of z and of 0 for the background.

    K + 1 logits have K degrees of freedom, so a logit 0 for the background is no restriction. All that
    follows reads the probabilities of the K keypoints as heatmaps.

    Args:
        inputs: channels of the feature.
        logits: builds the other head from them, such as `swahr.model.HeatmapHead`.
    """

    kind = HEATMAPS
    feeds_deconvolution = True

    def __init__(self, inputs: int, logits: Callable[[int], Head]) -> None:
        super().__init__()
        self.logits = logits(inputs)
        self.outputs = self.logits.outputs

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return the probability of each keypoint at each pixel, in float32 or wider."""
        logits = self.logits(feature)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        background = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([logits, background], dim=1), dim=1)[:, :-1]

    def initialise(self) -> None:
        """Initialise the other head."""
        self.logits.initialise()

    def keypoint_rows(self) -> dict[str, list[int]]:
        """The other head's."""
        return {f"logits.{name}": rows for name, rows in self.logits.keypoint_rows().items()}


class PixelClassification(StrideTerm):
    """Cross-entropy of each pixel's class: one of the K keypoints, or the background.

    A pixel is of the keypoint with the highest target heatmap if that is at least ``threshold``, otherwise it
    is background. All valid pixels of keypoints count, and a random share of the others, drawn anew in each
    training step. The value is the mean over the pixels that count.

    Args:
        weight: factor of the term.
        threshold: target heat of a keypoint's pixels; 0.5 is a disc of 1.2 sigma.
        negatives: share of the background's pixels that count (published: 0.0005).
        seed: of the draws; with the number of draws so far, which checkpoints store, it determines them.

    Raises:
        ValueError: a share is not in (0, 1].
    """

    draws: Tensor

    def __init__(
        self, weight: float = 1.0, threshold: float = 0.5, negatives: float = 0.0005, seed: int = 0
    ) -> None:
        super().__init__(weight)
        for name, share in (("threshold", threshold), ("negatives", negatives)):
            if not 0 < share <= 1:
                raise ValueError(f"loss.terms: {name}: expected a number above 0 and up to 1, got {share}")
        self.threshold, self.negatives, self.seed = threshold, negatives, seed
        self.register_buffer("draws", torch.tensor(0))

    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        """Return the value of one stride.

        Raises:
            ValueError: heatmaps are not probabilities.
        """
        heat, label = target.heatmaps.max(dim=1)  # (b h w)
        of_keypoint = heat >= self.threshold
        background = 1 - maps.heatmaps.sum(dim=1)
        if not bool((maps.heatmaps >= 0).all() & (background >= -_SMALLEST / 2).all()):
            raise ValueError(
                "PixelClassification: expected heatmaps that are probabilities, got values below 0 or sums "
                "above 1; use swahr.second_stage.SoftmaxHead as model.heads.heatmaps"
            )
        of_label = maps.heatmaps.gather(1, label[:, None])[:, 0]
        errors = -(torch.where(of_keypoint, of_label, background) + _SMALLEST).log()
        counts = (of_keypoint | self._drawn(of_keypoint)) & target.valid
        return torch.where(counts, errors, 0.0).sum(dim=(1, 2)) / counts.sum(dim=(1, 2)).clamp(min=1)

    def _drawn(self, like: Tensor) -> Tensor:
        """Draw pixels on the CPU, so that devices agree."""
        # Only the lower 32 bits of a seed have an effect.
        generator = torch.Generator().manual_seed((1_000_003 * self.seed + int(self.draws)) % 2**32)
        if self.training:
            self.draws += 1
        return (torch.rand(like.shape, generator=generator) < self.negatives).to(like.device)
