"""Training augmentation: a random affine transform of the image, its mask and its keypoints."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from swahr.choices import check_choice
from swahr.geometry import Affine, warp_image
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, Annotations, LabelledImage, Sample

ScalingReference = Literal["short", "long"]

_UNIT = 200  # pixels; translations refer to a window of this side (a convention of MPII's files)


def input_from_window(centre: tuple[float, float], side: float, input_size: int, rotation: float) -> Affine:
    """The transform that maps a square window of the image to the whole input.

    The window has ``centre`` (x, y) and ``side`` in image pixels. The image is rotated about the centre by
    ``rotation`` degrees, counter-clockwise as displayed.
    """
    middle = input_size / 2
    return (
        Affine.translation(middle, middle)
        @ Affine.rotation(-rotation)
        @ Affine.scaling(input_size / side)
        @ Affine.translation(-centre[0], -centre[1])
    )


class RandomAffine:
    """Random rotation, resizing, translation and flip in a single warp.

    As in HigherHRNet (Cheng et al., CVPR 2020, sec. 4.1) and SWAHR. Pixels outside the image are black and
    not ``valid``.

    Args:
        input_size: side of the square input, pixels.
        rotation: maximum angle in either direction, degrees.
        scaling: minimum and maximum factor on the window side; factors above 1 make people smaller.
        scaling_reference: the image side, ``short`` or ``long``, that is the window side at factor 1.
        translation: maximum shift along x and y, in pixels of a window of side 200.
        flip: probability of a horizontal flip.

    Raises:
        ValueError: a parameter is out of range.
    """

    def __init__(
        self,
        input_size: int,
        rotation: float = 30.0,
        scaling: Sequence[float] = (0.75, 1.5),
        scaling_reference: ScalingReference = "short",
        translation: float = 40.0,
        flip: float = 0.5,
    ) -> None:
        if input_size < 1 or len(scaling) != 2 or not 0 < scaling[0] <= scaling[1]:
            raise ValueError(
                "expected a positive input_size and scaling = (minimum, maximum) > 0, got "
                f"{input_size} and {tuple(scaling)}"
            )
        check_choice("scaling_reference", scaling_reference, get_args(ScalingReference))
        if not 0 <= flip <= 1 or rotation < 0 or translation < 0:
            raise ValueError(
                "expected a flip probability in [0, 1] and rotation and translation >= 0, got "
                f"{flip}, {rotation} and {translation}"
            )
        self.input_size = input_size
        self.rotation, self.translation, self.flip = rotation, translation, flip
        self.scaling, self.scaling_reference = (scaling[0], scaling[1]), scaling_reference

    def __call__(self, labelled: LabelledImage, *, skeleton: Skeleton, rng: np.random.Generator) -> Sample:
        """Sample a transform and apply it; see `transform_annotations` for people outside the input."""
        input_from_image = self._sample(labelled.valid.shape, rng)
        size = (self.input_size, self.input_size)
        opacity = warp_image(labelled.valid.astype(np.uint8) * 255, input_from_image, size)
        return Sample(
            image=warp_image(labelled.image, input_from_image, size),
            annotations=transform_annotations(labelled.annotations, input_from_image, size, skeleton),
            valid=opacity > 127,
            image_id=labelled.image_id,
            input_from_image=input_from_image,
        )

    def _sample(self, size: tuple[int, int], rng: np.random.Generator) -> Affine:
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
    """Transform people to a frame of ``size`` (h, w).

    A mirroring transform also exchanges left and right keypoints. Keypoints outside the frame become absent,
    and people without remaining keypoints are removed.
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
