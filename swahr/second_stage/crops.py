"""Crops of people: a frame around each pose, and the image warped into it."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from swahr.geometry import Affine, warp_image
from swahr.person_frame import person_frame
from swahr.structures import Poses

Size = tuple[int, int]


def confident_keypoints(poses: Poses, box_threshold: float) -> Bool[np.ndarray, "p k"]:
    """The keypoints whose score exceeds ``box_threshold``, or all of a person if none does.

    Others may lie anywhere, as recovered ones do.
    """
    confident = poses.present & (poses.scores > box_threshold)
    return np.where(confident.any(axis=1, keepdims=True), confident, poses.present)


def frames_of_people(
    poses: Poses, size: Size, *, enlarge: float = 1.3, box_threshold: float = 0.0
) -> list[Affine | None]:
    """Return ``crop_from_image`` of each person for crops of ``size`` (h, w); None without keypoints.

    The frame is that of `swahr.person_frame.person_frame` around the `confident_keypoints`.
    """
    chosen = confident_keypoints(poses, box_threshold)
    return [
        person_frame(points[counts], size, enlarge=enlarge) if counts.any() else None
        for points, counts in zip(poses.keypoints, chosen, strict=True)
    ]


def crop_people(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], frames: Sequence[Affine], size: Size
) -> UInt8[Tensor, "n 3 h w"]:
    """Return a crop of ``size`` (h, w) per person, given the person's image and ``crop_from_image``."""
    crops = [warp_image(image, frame, size) for image, frame in zip(images, frames, strict=True)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
