# mypose/postprocess.py
"""Pose NMS: keeps the best of several poses of the same person."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from swahr.pipeline import Image
from swahr.skeleton import Skeleton
from swahr.structures import Poses


class OksNms:
    """Removes poses whose OKS with a better pose is too high.

    Args:
        skeleton: provides the OKS sigmas.
        threshold: the highest OKS between two remaining poses.
    """

    def __init__(self, skeleton: Skeleton, threshold: float = 0.7) -> None:
        self.variances = 4 * np.square(skeleton.sigmas)
        self.threshold = threshold

    def __call__(self, images: Sequence[Image], poses: list[Poses]) -> list[Poses]:
        """Return the remaining poses of each image, best first."""
        return [self._suppress(found) for found in poses]

    def _suppress(self, poses: Poses) -> Poses:
        similar = self._similarities(poses) > self.threshold
        kept: list[int] = []
        for person in np.argsort(-poses.score, kind="stable").tolist():
            if not similar[person, kept].any():
                kept.append(person)
        return poses.select(kept)

    def _similarities(self, poses: Poses) -> Float64[np.ndarray, "p p"]:
        """OKS of each pair over common keypoints, with the larger of the keypoints' box areas."""
        present = poses.present[..., None]
        low = np.where(present, poses.keypoints, np.inf).min(axis=1, initial=np.inf)
        high = np.where(present, poses.keypoints, -np.inf).max(axis=1, initial=-np.inf)
        area = (high - low).prod(axis=1).clip(min=1.0)
        distance = np.square(poses.keypoints[:, None] - poses.keypoints).sum(axis=3)  # (p p k)
        both = poses.present[:, None] & poses.present
        similarity = np.exp(-distance / (2 * self.variances * np.maximum(area[:, None], area)[..., None]))
        return np.where(both, similarity, 0.0).sum(axis=2) / both.sum(axis=2).clip(min=1)
