"""Training augmentation of single-person networks: a random crop around one annotated person."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from swahr.data.transforms import transform_annotations
from swahr.geometry import Affine, fit_rectangle, warp_image
from swahr.person_frame import person_frame
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, Annotations, LabelledImage, Sample


@runtime_checkable
class BoxSampler(Protocol):
    """Samples boxes around people, such as `swahr.second_stage.FittedProposals`."""

    @property
    def keypoints(self) -> tuple[str, ...]:
        """The names of the keypoints of poses, in their order."""

    def sample(
        self,
        pose: Float64[np.ndarray, "k 2"],
        box: Float64[np.ndarray, " 4"],
        rng: np.random.Generator,
    ) -> Float64[np.ndarray, " 4"]:
        """A box (x0, y0, x1, y1) for a pose, NaN where a keypoint is absent, and its bounding box."""


class RandomPersonCrop:
    """A crop around one person of the image, chosen at random; only this person is annotated in it.

    Other people in the crop stay unlabelled: the network learns from the position which person is meant. The
    frame is that of `swahr.person_frame`, changed at random. Pixels outside the image are black and not
    ``valid``. In an image without a suitable person, nothing is valid.

    Args:
        input_size: height and width of the crop, in pixels; one number for a square.
        enlarge: factor on the bounding box of the person's keypoints, as at test time.
        rotation: maximum angle in either direction, degrees.
        scaling: minimum and maximum factor on the sides of the enlarged box.
        shift: maximum shift along x and y, as a fraction of the crop's sides.
        flip: probability of a horizontal flip.
        min_keypoints: people with fewer annotated keypoints are not chosen.
        boxes: samples the person's box, which is then enlarged and rotated; ``scaling`` and ``shift`` have no
            effect. None uses the box of the annotated keypoints.
        condition: the pose of the person that a bottom-up network might find, given all people; it becomes
            the sample's condition (`swahr.second_stage.PoseErrors`).

    Raises:
        ValueError: a parameter is out of range.
    """

    def __init__(
        self,
        input_size: int | Sequence[int],
        enlarge: float = 1.3,
        rotation: float = 30.0,
        scaling: Sequence[float] = (0.8, 1.25),
        shift: float = 0.1,
        flip: float = 0.5,
        min_keypoints: int = 3,
        boxes: BoxSampler | None = None,
        condition: Callable[..., Float64[np.ndarray, "k 2"]] | None = None,
    ) -> None:
        sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if len(sides) != 2 or min(sides) < 1 or enlarge <= 0:
            raise ValueError(
                f"expected input_size = (height, width) and enlarge > 0, got {sides} and {enlarge}"
            )
        if len(scaling) != 2 or not 0 < scaling[0] <= scaling[1] or min_keypoints < 1:
            raise ValueError(
                "expected scaling = (minimum, maximum) > 0 and min_keypoints >= 1, got "
                f"{tuple(scaling)} and {min_keypoints}"
            )
        if not 0 <= flip <= 1 or rotation < 0 or shift < 0:
            raise ValueError(
                "expected a flip probability in [0, 1] and rotation and shift >= 0, got "
                f"{flip}, {rotation} and {shift}"
            )
        self.input_size, self.enlarge, self.min_keypoints = (sides[0], sides[1]), enlarge, min_keypoints
        self.rotation, self.flip = rotation, flip
        self.boxes, self.condition = boxes, condition
        # A sampled box has another size and position already.
        self.scaling = (scaling[0], scaling[1]) if boxes is None else (1.0, 1.0)
        self.shift = shift if boxes is None else 0.0

    def __call__(self, labelled: LabelledImage, *, skeleton: Skeleton, rng: np.random.Generator) -> Sample:
        """Choose a person and a frame, and warp the image into it.

        Raises:
            ValueError: the boxes are for other keypoints than the skeleton's.
        """
        if self.boxes is not None and self.boxes.keypoints != skeleton.keypoints:
            raise ValueError(
                f"data.module.augmentation.boxes: expected boxes for the keypoints of skeleton "
                f"'{skeleton.name}' ({list(skeleton.keypoints)}), got {list(self.boxes.keypoints)}; fit "
                "proposals to data of this skeleton"
            )
        everyone, size = labelled.annotations, self.input_size
        chosen = np.flatnonzero((everyone.visibility != ABSENT).sum(axis=1) >= self.min_keypoints)
        if len(chosen):
            chosen = rng.choice(chosen, size=1)
            is_known = everyone.visibility[chosen[0]] != ABSENT
            frame = self._sample(self._corners(everyone.keypoints[chosen[0]], is_known, rng), rng)
        else:
            frame = fit_rectangle(labelled.valid.shape, size)
        person = Annotations(everyone.keypoints[chosen], everyone.visibility[chosen], everyone.area[chosen])
        opacity = warp_image(labelled.valid.astype(np.uint8) * 255, frame, size)
        return Sample(
            image=warp_image(labelled.image, frame, size),
            annotations=transform_annotations(person, frame, size, skeleton),
            valid=(opacity > 127) & bool(len(chosen)),
            image_id=labelled.image_id,
            input_from_image=frame,
            condition=self._condition(everyone, chosen, frame, skeleton, rng),
        )

    def _condition(
        self,
        everyone: Annotations,
        chosen: np.ndarray,
        frame: Affine,
        skeleton: Skeleton,
        rng: np.random.Generator,
    ) -> Float64[np.ndarray, "k 2"] | None:
        """The condition in the frame of the crop, NaN where keypoints are missing."""
        if self.condition is None:
            return None
        people = np.where((everyone.visibility != ABSENT)[..., None], everyone.keypoints, np.nan)
        if not len(chosen):
            return np.full((skeleton.num_keypoints, 2), np.nan)
        permutation = list(skeleton.flip_permutation)
        found = frame.apply(self.condition(people, int(chosen[0]), flip_permutation=permutation, rng=rng))
        return found[permutation] if frame.area_ratio < 0 else found

    def _corners(self, pose: np.ndarray, is_known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Two corners of the person's box."""
        known = pose[is_known]
        corners = np.stack([known.min(axis=0), known.max(axis=0)])
        if self.boxes is None:
            return corners
        return self.boxes.sample(np.where(is_known[:, None], pose, np.nan), corners.ravel(), rng).reshape(
            2, 2
        )

    def _sample(self, corners: np.ndarray, rng: np.random.Generator) -> Affine:
        h, w = self.input_size
        dx, dy = rng.uniform(-self.shift, self.shift, size=2)
        frame = (
            Affine.translation(w / 2 + dx * w, h / 2 + dy * h)
            @ Affine.rotation(rng.uniform(-self.rotation, self.rotation))
            @ Affine.scaling(1 / rng.uniform(*self.scaling))
            @ Affine.translation(-w / 2, -h / 2)
            @ person_frame(corners, self.input_size, enlarge=self.enlarge)
        )
        return Affine.horizontal_flip(float(w)) @ frame if rng.random() < self.flip else frame
