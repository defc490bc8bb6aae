"""Training of single-person networks, validated on the crops of annotated people."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from swahr.rehearsal import rehearsed
from swahr.second_stage import ConditionedNetwork, SecondStage
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, Annotations, LabelledImage, Poses
from swahr.training.module import PoseModule


class PersonModule(PoseModule):
    """Trains a single-person network on crops, and measures AP on crops of the annotated people.

    Nobody is missed, and every box is right; scores are those of the second stage alone. A conditioned
    network sees the annotated poses with errors (``second_stage.condition``), the same in every validation.

    Args:
        second_stage: crops and decodes the people (`swahr.second_stage.SecondStage`).
        skeleton: the annotated keypoints.
        parts: those of `PoseModule`.
    """

    def __init__(self, *, second_stage: SecondStage | None, skeleton: Skeleton, **parts: Any) -> None:
        super().__init__(**parts)
        if second_stage is None:
            raise ValueError(
                "training=person: expected second_stage=person, which states how people are cropped, got "
                "none; see experiment=person"
            )
        if isinstance(self.network, ConditionedNetwork) != (second_stage.condition is not None):
            raise ValueError(
                "training=person: expected a conditioned network together with "
                "data.module.augmentation.condition, or neither, got "
                f"{type(self.network).__name__} and {type(second_stage.condition).__name__}; see "
                "experiment=conditioned_crops"
            )
        self.second_stage, self.skeleton = second_stage, skeleton

    def validation_step(self, images: Sequence[LabelledImage], _: int) -> None:
        """Find the keypoints of each annotated person."""
        with rehearsed("finding keypoints in the first validation images", on=self.trainer.sanity_checking):
            people = [annotated_poses(image.annotations, self.skeleton) for image in images]
            pictures, ids = [image.image for image in images], [image.image_id for image in images]
            found = self.second_stage(self.network, pictures, people, self.device, annotated=ids)
        self.validation_poses.update(zip(ids, found, strict=True))


def annotated_poses(annotations: Annotations, skeleton: Skeleton) -> Poses:
    """The annotated people as poses with scores of 1; people without annotated keypoints are left out."""
    present = annotations.visibility != ABSENT
    keypoints = np.where(present[..., None], annotations.keypoints, np.nan)
    poses = Poses(keypoints, present.astype(np.float64), np.ones(len(present)), present, skeleton)
    return poses.select(present.any(axis=1))
