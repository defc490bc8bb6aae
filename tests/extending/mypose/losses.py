# mypose/losses.py
"""Online hard keypoint mining: an extra loss on the keypoints whose heatmaps have the largest error."""

from jaxtyping import Float
from torch import Tensor

from swahr.loss import StrideTerm
from swahr.structures import Maps, MapTargets


class HardKeypoints(StrideTerm):
    """The mean squared error of the hardest heatmaps of each image (Chen et al., CPN, CVPR 2018).

    Args:
        weight: factor of the term.
        hardest: number of keypoints per image that contribute.
    """

    def __init__(self, weight: float = 1.0, hardest: int = 8) -> None:
        super().__init__(weight)
        self.hardest = hardest

    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        """The error of one stride, for each image."""
        errors = (maps.heatmaps - target.heatmaps).square() * target.valid[:, None]  # (b k h w)
        per_keypoint = errors.mean(dim=(2, 3))
        return per_keypoint.topk(min(self.hardest, per_keypoint.shape[1]), dim=1).values.mean(dim=1)
