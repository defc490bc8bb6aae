"""Training augmentation: one random affine map for the image, its mask and its keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from swahr.geometry import Affine, warp_image
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, Annotations, LabelledImage, Sample

_UNIT = 200  # pixels; translations are given at an image window of this side (a convention of MPII's files)


def input_from_window(centre: tuple[float, float], side: float, input_size: int, rotation: float) -> Affine:
    """Map a square window of an image, turned about its centre, onto the whole input.

    Args:
        centre: (x, y) of the window in the image, pixels.
        side: of the window in the image, pixels.
        input_size: side of the input, pixels.
        rotation: degrees; positive turns the picture counter-clockwise, as seen.
    """
    middle = input_size / 2
    return (
        Affine.translation(middle, middle)
        @ Affine.rotation(-rotation)
        @ Affine.scaling(input_size / side)
        @ Affine.translation(-centre[0], -centre[1])
    )


class RandomAffine:
    """Rotate, resize, shift and flip at random, in one warp.

    The recipe is HigherHRNet's (Cheng et al., CVPR 2020, sec. 4.1), which SWAHR keeps. Pixels outside the
    image are black and not valid.

    Args:
        input_size: side of the square input, pixels.
        rotation: largest angle, degrees, either way.
        scaling: least and largest factor on the window that becomes the input (above 1 people get smaller).
        scaling_reference: the window at factor 1 has the image's ``short`` or ``long`` side.
        translation: largest shift of the window along x and y, pixels of a window of side 200.
        flip: probability of a mirror image.

    Raises:
        ValueError: a parameter is out of range.
    """

    def __init__(
        self,
        input_size: int,
        rotation: float = 30.0,
        scaling: Sequence[float] = (0.75, 1.5),
        scaling_reference: Literal["short", "long"] = "short",
        translation: float = 40.0,
        flip: float = 0.5,
    ) -> None:
        if input_size < 1 or len(scaling) != 2 or not 0 < scaling[0] <= scaling[1]:
            raise ValueError(
                f"expected a positive input_size and scaling = (least, largest) > 0, got {input_size} and "
                f"{tuple(scaling)}"
            )
        if scaling_reference not in ("short", "long"):
            raise ValueError(f"expected scaling_reference 'short' or 'long', got {scaling_reference!r}")
        if not 0 <= flip <= 1 or rotation < 0 or translation < 0:
            raise ValueError(
                f"expected a flip probability in [0, 1] and rotation and translation >= 0, got {flip}, "
                f"{rotation} and {translation}"
            )
        self.input_size = input_size
        self.rotation = rotation
        self.scaling = (scaling[0], scaling[1])
        self.scaling_reference = scaling_reference
        self.translation = translation
        self.flip = flip

    def __call__(self, labelled: LabelledImage, *, skeleton: Skeleton, rng: np.random.Generator) -> Sample:
        """Draw a map and apply it.

        Keypoints that leave the input become absent, and people who have none left are dropped.
        """
        height, width = labelled.valid.shape
        input_from_image = self._draw((height, width), rng)
        size = (self.input_size, self.input_size)
        opacity = warp_image(labelled.valid.astype(np.uint8) * 255, input_from_image, size)
        return Sample(
            image=warp_image(labelled.image, input_from_image, size),
            annotations=transform_annotations(labelled.annotations, input_from_image, size, skeleton),
            valid=opacity > 127,
            image_id=labelled.image_id,
            input_from_image=input_from_image,
        )

    def _draw(self, size: tuple[int, int], rng: np.random.Generator) -> Affine:
        """A random map for an image of ``size`` (h, w)."""
        reference = min(size) if self.scaling_reference == "short" else max(size)
        side = reference * rng.uniform(*self.scaling)
        reach = self.translation * side / _UNIT
        dx, dy = rng.uniform(-reach, reach, size=2)
        window = input_from_window(
            centre=(size[1] / 2 + dx, size[0] / 2 + dy),
            side=side,
            input_size=self.input_size,
            rotation=rng.uniform(-self.rotation, self.rotation),
        )
        return Affine.horizontal_flip(float(self.input_size)) @ window if rng.random() < self.flip else window


def transform_annotations(
    annotations: Annotations, target_from_source: Affine, size: tuple[int, int], skeleton: Skeleton
) -> Annotations:
    """Move people into a frame of ``size`` (h, w), in the target frame's coordinates.

    A mirroring map also exchanges left and right. Keypoints outside the frame become absent, and people
    without any keypoint are dropped.
    """
    keypoints = target_from_source.apply(annotations.keypoints)
    visibility = annotations.visibility
    if target_from_source.area_ratio < 0:
        permutation = list(skeleton.flip_permutation)
        keypoints, visibility = keypoints[:, permutation], visibility[:, permutation]
    inside = ((keypoints >= 0) & (keypoints < (size[1], size[0]))).all(axis=-1)
    visibility = np.where(inside, visibility, ABSENT)
    kept = (visibility != ABSENT).any(axis=1)
    area = annotations.area * abs(target_from_source.area_ratio)
    return Annotations(keypoints[kept], visibility[kept], area[kept])
