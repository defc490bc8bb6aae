"""The first stage's pose as a further input of the second: the condition.

Bottom-up conditioned top-down pose estimation (BUCTD; Zhou et al., ICCV 2023): the pose tells the network
which of several people in the crop is meant. See docs/second_stage.md.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from swahr.model.higherhrnet import RgbImages
from swahr.second_stage.wrapper import NetworkWrapper
from swahr.structures import NetworkOutput

STRIDE = 4
"""Pixels of the crop per pixel of the condition's maps."""

Pose = Float64[np.ndarray, "k 2"]
"""A person's keypoints; NaN where they are missing."""


class ConditionedNetwork(NetworkWrapper):
    """A single-person network whose crops are painted with the first stage's pose.

    The pose is drawn as a Gaussian heatmap per keypoint. A transposed convolution of these maps to three
    channels, which starts at 0, is added to the normalised crop: at first, the pose has no effect.

    Args:
        network: predicts maps of one person (`swahr.model.HigherHRNet`).
        num_keypoints: number of heatmaps.
        deviation: standard deviation of the Gaussians, in pixels of the heatmaps, which have stride 4.

    Raises:
        ValueError: ``deviation`` is not positive.
    """

    def __init__(self, network: nn.Module, num_keypoints: int, deviation: float = 2.0) -> None:
        super().__init__(network, STRIDE)
        if not deviation > 0:
            raise ValueError(f"model.deviation: expected a number above 0, got {deviation}")
        self.deviation = deviation
        self.paint = nn.ConvTranspose2d(
            num_keypoints, 3, 2 * STRIDE, stride=STRIDE, padding=STRIDE // 2, bias=False
        )
        nn.init.zeros_(self.paint.weight)

    def forward(self, images: RgbImages, condition: Float[Tensor, "b k 2"] | None = None) -> NetworkOutput:
        """Return the maps of each person. Frame: input.

        Args:
            images: see `swahr.model.HigherHRNet`.
            condition: the first stage's keypoints, NaN where missing. Frame: input.

        Raises:
            ValueError: there is no condition.
        """
        if condition is None:
            raise ValueError(
                "expected the first stage's pose beside each crop, got crops alone; a conditioned network is "
                "trained as in experiment=conditioned_crops, and runs as second_stage=crops"
            )
        size = (images.shape[2], images.shape[3])
        maps = condition_maps(condition, size, deviation=self.deviation).to(self.paint.weight.dtype)
        output: NetworkOutput = self.network(self.normalised(images) + self.paint(maps))
        return output

    def keypoint_rows(self) -> dict[str, list[int]]:
        """See `swahr.runs.initial_weights.KeypointNetwork`."""
        return super().keypoint_rows() | {"paint.weight": [0]}


def condition_maps(
    keypoints: Float[Tensor, "b k 2"], size: tuple[int, int], *, deviation: float
) -> Float[Tensor, "b k h w"]:
    """Draw a Gaussian of height 1 for each keypoint of crops of ``size`` (h, w), at stride 4.

    The maps of keypoints that are missing (NaN) or outside the crop are 0.
    """
    is_inside = keypoints.new_ones(keypoints.shape[:2], dtype=torch.bool)
    profiles = []  # (b k w) and (b k h)
    for side, at in zip(size[::-1], keypoints.unbind(2), strict=True):  # an exported graph keeps the sizes
        is_inside = is_inside & (at >= 0) & (at < side)  # False for NaN
        away = torch.arange(side // STRIDE, device=at.device) + 0.5 - (at / STRIDE).nan_to_num()[..., None]
        profiles.append(torch.exp(away.square() / (-2 * deviation**2)))
    x, y = profiles
    return torch.where(is_inside[..., None, None], y[..., :, None] * x[..., None, :], 0.0)


def mirror_condition(
    keypoints: Float[Tensor, "b k 2"], width: int, flip_permutation: Sequence[int]
) -> Float[Tensor, "b k 2"]:
    """Return the condition of mirrored crops: x is width - x, and left and right are exchanged."""
    x, y = keypoints[:, list(flip_permutation)].unbind(2)
    return torch.stack([width - x, y], dim=2)


class PoseErrors:
    """Poses as a bottom-up network might find them: annotated ones with random errors.

    Errors have the names of `swahr analyse` and occur in this order, independently for each keypoint.

    Args:
        inversion: probability that a keypoint and its left or right counterpart are exchanged.
        swap: probability that a keypoint is that of another person: of the nearest one, if its distance is
            at most the longer side of the person's box.
        jitter: standard deviation of a keypoint's shift in x and in y, as a fraction of that side.
        miss: probability that a keypoint is missing.

    Raises:
        ValueError: a parameter is out of range.
    """

    def __init__(
        self, inversion: float = 0.03, swap: float = 0.1, jitter: float = 0.03, miss: float = 0.15
    ) -> None:
        for name, value in (("inversion", inversion), ("swap", swap), ("miss", miss)):
            if not 0 <= value <= 1:
                raise ValueError(f"condition.{name}: expected a probability in [0, 1], got {value}")
        if not 0 <= jitter < np.inf:
            raise ValueError(f"condition.jitter: expected a number of at least 0, got {jitter}")
        self.inversion, self.swap, self.jitter, self.miss = inversion, swap, jitter, miss

    def __call__(
        self,
        people: Float64[np.ndarray, "p k 2"],
        person: int,
        *,
        flip_permutation: Sequence[int],
        rng: np.random.Generator,
    ) -> Pose:
        """Return the pose of one person with errors.

        Args:
            people: all people of the image, NaN where keypoints are absent.
            person: index of the person.
            flip_permutation: the counterpart of each keypoint.
            rng: source of all randomness.
        """
        pose, counterpart = people[person], np.asarray(flip_permutation)
        k = len(pose)
        chance, shift = rng.random((3, k)), rng.normal(size=(k, 2))
        known = pose[~np.isnan(pose).any(axis=1)]
        side = np.ptp(known, axis=0).max() if len(known) else 0.0
        # A keypoint and its counterpart share one draw.
        is_inverted = chance[0, np.minimum(counterpart, np.arange(k))] < self.inversion
        found = np.where(is_inverted[:, None], pose[counterpart], pose)
        others = np.delete(people, person, axis=0)
        if len(others):
            distance = np.nan_to_num(np.linalg.norm(others - pose, axis=2), nan=np.inf)
            nearest = others[distance.argmin(axis=0), np.arange(k)]
            is_swapped = (chance[1] < self.swap) & (distance.min(axis=0) <= side)
            found = np.where(is_swapped[:, None], nearest, found)
        found = found + self.jitter * side * shift
        return np.where((chance[2] < self.miss)[:, None], np.nan, found)

    def of_image(
        self, people: Float64[np.ndarray, "p k 2"], image_id: int, *, flip_permutation: Sequence[int]
    ) -> Float64[np.ndarray, "p k 2"]:
        """Return the poses of all people with errors, which depend on image and person only."""
        found = people.copy()
        for person in range(len(people)):
            rng = np.random.default_rng((abs(image_id), person))
            found[person] = self(people, person, flip_permutation=flip_permutation, rng=rng)
        return found
