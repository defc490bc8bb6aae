"""A source of rendered crowds: unbounded, deterministic, without files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from swahr.data.synthetic.body import INDEX
from swahr.data.synthetic.crowd import SampledCrowd
from swahr.data.synthetic.layouts import LayoutCrowd
from swahr.data.synthetic.records import dataset_records
from swahr.data.synthetic.scene import Scene, annotate, paint_crowd
from swahr.data.synthetic.scenery import photograph
from swahr.skeleton import COCO, Skeleton
from swahr.structures import Annotations, LabelledImage

KNOWN_KEYPOINTS = tuple(name for name in INDEX if name != "head_centre")


class SyntheticSource:
    """Rendered crowds, a fresh image for every (seed, index). Frame: image, RGB uint8.

    People are articulated 3-D bodies whose joint angles stay within natural limits; visibility is read from
    what was drawn: 2 where the picture shows the person at the keypoint, 1 where another person, an object or
    the own body hides it, 0 outside the image. Somebody of whom no keypoint can be seen is not labelled, and
    the pixels of such a person are not ``valid``.

    Args:
        size: images of this split: ``len()`` and the extent of `ground_truth`. Any index may be asked.
        seed: of the split; different seeds give different images for every index.
        image_size: (h, w) in pixels.
        people: fewest and most people in an image; of ``layouts``, only images with so many are used.
        person_height: range of the tallest person's height in image heights; None with ``layouts``.
        height_spread: greatest ratio of person heights within an image; None with ``layouts``.
        unusual_poses: fraction of people bent, lying, upside down, ...; None with ``layouts``.
        facing: fraction of people who face the viewer, within 60 degrees or so; None with ``layouts``.
        overlap: fraction of people who do not try to keep clear of nearer ones; None with ``layouts``.
        objects: fewest and most objects in front of people.
        clutter: fewest and most things in the background.
        background_contrast: of the textures of walls and floors; 1 as they are, 0 for plain colours.
        blur: greatest standard deviation of the lens blur, in pixels.
        noise: greatest standard deviation of the sensor noise, in grey levels.
        jpeg_quality: range of JPEG qualities; None for no compression.
        layouts: a COCO-format keypoint file (``.json`` or ``.json.gz``) whose poses and crowds are rendered
            in place of sampled ones; keypoints are matched by name.
        skeleton: which keypoints are annotated; all of `KNOWN_KEYPOINTS` may be named.

    Raises:
        ValueError: a skeleton names keypoints that are not drawn, a range is empty or out of bounds, or
            ``layouts`` comes together with the settings of sampled crowds.
    """

    unbounded = True

    def __init__(
        self,
        *,
        size: int,
        seed: int = 0,
        image_size: tuple[int, int] = (256, 256),
        people: tuple[int, int] = (1, 4),
        person_height: tuple[float, float] | None = (0.6, 0.95),
        height_spread: float | None = 4.0,
        unusual_poses: float | None = 0.02,
        facing: float | None = 0.5,
        overlap: float | None = 0.5,
        objects: tuple[int, int] = (0, 2),
        clutter: tuple[int, int] = (0, 8),
        background_contrast: float = 1.0,
        blur: float = 0.8,
        noise: float = 6.0,
        jpeg_quality: tuple[int, int] | None = (60, 95),
        layouts: str | Path | None = None,
        skeleton: Skeleton = COCO,
    ) -> None:
        if unknown := [name for name in skeleton.keypoints if name not in KNOWN_KEYPOINTS]:
            raise ValueError(
                f"rendered people have no keypoints {unknown} of skeleton '{skeleton.name}'; name some of "
                f"{list(KNOWN_KEYPOINTS)}"
            )
        _check_range("image_size", (min(image_size), max(image_size)), 32)
        for name, counts in (("people", people), ("objects", objects), ("clutter", clutter)):
            _check_range(name, counts, 0)
        _check_range("jpeg_quality", jpeg_quality or (100, 100), 1)
        if size < 0 or seed < 0 or min(blur, noise) < 0:
            raise ValueError(f"size, seed, blur and noise must be >= 0, got {size}, {seed}, {blur}, {noise}")
        self.skeleton = skeleton
        self._size, self._seed, self._image_size = size, seed, image_size
        self._objects, self._clutter = objects, clutter
        self._background_contrast = background_contrast
        self._photograph = partial(photograph, blur=blur, noise=noise, jpeg_quality=jpeg_quality)
        self._landmarks = [INDEX[name] for name in skeleton.keypoints]
        sampled = {
            "person_height": person_height,
            "height_spread": height_spread,
            "unusual_poses": unusual_poses,
            "facing": facing,
            "overlap": overlap,
        }
        self._crowd = _make_crowd(people, sampled, layouts)

    def __len__(self) -> int:
        """The number of images of this split."""
        return self._size

    def __getitem__(self, index: int) -> LabelledImage:
        """Render image ``index`` (>= 0, not only below the length).

        Raises:
            IndexError: the index is negative.
        """
        scene = self.scene(index)
        labels = Annotations(scene.keypoints, scene.visibility, scene.area[: len(scene.keypoints)])
        return LabelledImage(scene.image, labels, scene.valid, image_id=index + 1)

    def describe(self, index: int) -> str:
        """What messages call image ``index``."""
        return f"rendered crowd {index} of seed {self._seed}"

    def ground_truth(self) -> dict[str, Any]:
        """A COCO-format dataset of the first ``len()`` images, agreeing exactly with their annotations."""
        return self._ground_truth

    @cached_property
    def _ground_truth(self) -> dict[str, Any]:
        return dataset_records(self.scenes(), self.skeleton)

    def scenes(self) -> Iterator[tuple[str, Scene]]:
        """The first ``len()`` scenes with the names of their files."""
        for index in range(len(self)):
            yield f"{index + 1:012d}.jpg", self.scene(index)

    def scene(self, index: int) -> Scene:
        """Image ``index`` with everything that is known about it."""
        if index < 0:
            raise IndexError(f"expected an index >= 0, got {index}")
        rng = np.random.default_rng((self._seed, index))
        bodies = self._crowd(rng, self._image_size)
        objects, clutter = (int(rng.integers(low, high + 1)) for low, high in (self._objects, self._clutter))
        canvas = paint_crowd(rng, bodies, self._image_size, objects, clutter, self._background_contrast)
        image = self._photograph(rng, canvas.image)
        return annotate(canvas, image, bodies, self._landmarks)


def _check_range(name: str, values: tuple[int | float, int | float], floor: int | float) -> None:
    if not floor <= values[0] <= values[1]:
        raise ValueError(f"{name}: expected {floor} <= least <= most, got {list(values)}")


def _make_crowd(
    people: tuple[int, int], sampled: Mapping[str, Any], layouts: str | Path | None
) -> SampledCrowd | LayoutCrowd:
    """People from the generator with the settings ``sampled``, or from a file, when all of them are None."""
    if layouts is not None:
        if given := [name for name, value in sampled.items() if value is not None]:
            raise ValueError(
                f"layouts give people's poses and heights; set {given} to null, or layouts to null"
            )
        return LayoutCrowd(layouts, people)
    if missing := [name for name, value in sampled.items() if value is None]:
        raise ValueError(f"sampled crowds need {missing}; give values, or a file of layouts")
    _check_range("person_height", sampled["person_height"], 0.02)
    _check_range("height_spread", (sampled["height_spread"], sampled["height_spread"]), 1)
    return SampledCrowd(people, **sampled)
