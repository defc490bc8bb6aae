"""Crops of people: a frame around each pose, and the image warped into it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from swahr.geometry import Affine, warp_image
from swahr.person_frame import person_frame
from swahr.structures import Poses

Size = tuple[int, int]


def frames_of_people(
    poses: Poses, size: Size, *, enlarge: float = 1.3, box_threshold: float = 0.0
) -> list[Affine | None]:
    """Return ``crop_from_image`` of each person for crops of ``size`` (h, w); None without keypoints.

    The frame is that of `swahr.person_frame.person_frame` around the keypoints whose score exceeds
    ``box_threshold``, or around all if none does: recovered keypoints may lie anywhere.
    """
    frames: list[Affine | None] = []
    for points, scores, present in zip(poses.keypoints, poses.scores, poses.present, strict=True):
        confident = present & (scores > box_threshold)
        chosen = points[confident if confident.any() else present]
        frames.append(person_frame(chosen, size, enlarge=enlarge) if len(chosen) else None)
    return frames


def crop_people(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], frames: Sequence[Affine], size: Size
) -> UInt8[Tensor, "n 3 h w"]:
    """Return a crop of ``size`` (h, w) per person, given the person's image and ``crop_from_image``."""
    crops = [warp_image(image, frame, size) for image, frame in zip(images, frames, strict=True)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
