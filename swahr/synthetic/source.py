"""A deterministic, unbounded source of rendered crowds, and its export to files."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from swahr.choices import check_choice
from swahr.coco_json import dataset, image_entry, person_entry
from swahr.files import write_json
from swahr.images import write_image
from swahr.skeleton import COCO, Skeleton
from swahr.structures import ABSENT, Annotations, LabelledImage
from swahr.synthetic.body import INDEX
from swahr.synthetic.layout_crowd import LayoutCrowd, Window
from swahr.synthetic.sampled_crowd import SampledCrowd
from swahr.synthetic.scene import Scene, annotate, crowd_index, paint_crowd
from swahr.synthetic.scenery import photograph

KNOWN_KEYPOINTS = tuple(name for name in INDEX if name != "head_centre")
"""The supported names of keypoints."""

Style = Literal["coco", "crowdpose"]
"""The format of exported annotations; ``crowdpose`` has no areas."""

_JPEG_QUALITY = 95


class SyntheticSource:
    """Rendered crowds, with one image per (seed, index). Frame: image.

    People are articulated 3-D bodies with joint angles within natural limits. Visibility is computed from the
    rendered image: 2 if the keypoint is visible, 1 if another person, an object or the person's own body
    occludes it, 0 if it is outside the image. People without a visible keypoint are not labelled, and their
    pixels are not ``valid``.

    Args:
        size: number of images of an epoch and of `ground_truth`; larger indices are also valid.
        seed: seed of all images; different seeds give different images at every index.
        image_size: (h, w) in pixels.
        people: minimum and maximum number of people per image; selects among the images of ``layouts``.
        person_height: range of the tallest person's height in image heights; None with ``layouts``.
        height_spread: maximum ratio of person heights within an image; None with ``layouts``.
        unusual_poses: fraction of people who are bent, lying or upside down; None with ``layouts``.
        facing: fraction of people who face the viewer, within about 60 degrees; None with ``layouts``.
        overlap: fraction of people who do not avoid nearer people; None with ``layouts``.
        objects: minimum and maximum number of objects in front of people.
        clutter: minimum and maximum number of objects in the background.
        background_contrast: factor on the contrast of walls and floors; 0 for plain colours.
        blur: maximum standard deviation of the lens blur, in pixels.
        noise: maximum standard deviation of the sensor noise, in grey levels.
        jpeg_quality: range of JPEG qualities; None for no compression.
        layouts: a COCO-format keypoint file (``.json`` or ``.json.gz``) whose people are rendered instead of
            sampled ones; keypoints are matched by name.
        window: the part of a layout that fills the image: the whole ``image``, or the box of its ``people``.
        skeleton: the annotated keypoints, named as in `KNOWN_KEYPOINTS`.

    Raises:
        FileNotFoundError: the file ``layouts`` does not exist.
        ValueError: the skeleton has unknown keypoints, a range is empty or out of bounds, ``layouts`` is
            malformed, or ``layouts`` is combined with settings of sampled crowds.
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
        window: Window = "image",
        skeleton: Skeleton = COCO,
    ) -> None:
        if unknown := [name for name in skeleton.keypoints if name not in KNOWN_KEYPOINTS]:
            raise ValueError(
                f"rendered people have no keypoints {unknown} of skeleton '{skeleton.name}'; use names among "
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
        self._crowd = _make_crowd(people, sampled, layouts, window)

    def __len__(self) -> int:
        """The number of images of one epoch."""
        return self._size

    def __getitem__(self, index: int) -> LabelledImage:
        """Render image ``index``, which may exceed the length.

        Raises:
            IndexError: the index is negative.
        """
        scene = self.scene(index)
        labels = Annotations(scene.keypoints, scene.visibility, scene.area[: len(scene.keypoints)])
        return LabelledImage(scene.image, labels, scene.valid, image_id=index + 1)

    def __iter__(self) -> Iterator[LabelledImage]:
        """The images of the first epoch."""
        return (self[index] for index in range(len(self)))

    def describe(self, index: int) -> str:
        """The name of image ``index`` in messages."""
        return f"rendered crowd {index} of seed {self._seed}"

    def ground_truth(self) -> dict[str, Any]:
        """A COCO-format mapping of the first ``len()`` images, which equals their annotations exactly."""
        return self._ground_truth

    @cached_property
    def _ground_truth(self) -> dict[str, Any]:
        return _coco_dataset(self.scenes(), self.skeleton)

    def scenes(self) -> Iterator[tuple[str, Scene]]:
        """The first ``len()`` scenes with the names of their files."""
        for index in range(len(self)):
            yield f"{index + 1:012d}.jpg", self.scene(index)

    def scene(self, index: int) -> Scene:
        """Render image ``index``, with boxes and areas.

        Raises:
            IndexError: the index is negative.
        """
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
        raise ValueError(f"{name}: expected {floor} <= minimum <= maximum, got {list(values)}")


def _make_crowd(
    people: tuple[int, int], sampled: Mapping[str, Any], layouts: str | Path | None, window: Window
) -> SampledCrowd | LayoutCrowd:
    """People sampled with the settings ``sampled``, or from the file ``layouts`` if all of them are None."""
    if layouts is not None:
        if given := [name for name, value in sampled.items() if value is not None]:
            raise ValueError(
                f"layouts determine people's poses and heights: set {given} to null, or layouts to null"
            )
        return LayoutCrowd(layouts, people, window)
    if missing := [name for name, value in sampled.items() if value is None]:
        raise ValueError(f"sampled crowds need values for {missing}: set them, or set layouts to a file")
    _check_range("person_height", sampled["person_height"], 0.02)
    _check_range("height_spread", (sampled["height_spread"], sampled["height_spread"]), 1)
    return SampledCrowd(people, **sampled)


def render_dataset(
    source: SyntheticSource,
    folder: str | Path,
    *,
    style: Style = "coco",
    progress: Callable[[], object] | None = None,
) -> Path:
    """Write a source's ``len()`` images to ``folder/images`` and their annotations to ``folder/annotations``.

    The annotation file is written last and atomically, so a data set that has it is complete.

    Args:
        source: the images.
        folder: the output folder, created if missing.
        style: ``coco``, or ``crowdpose`` for annotations without areas.
        progress: called after each image.

    Returns:
        The path of the annotation file, ``folder/annotations/person_keypoints.json``.

    Raises:
        OSError: the folder cannot be created or written to.
        ValueError: unknown ``style``.
    """
    check_choice("style", style, get_args(Style))

    def written() -> Iterator[tuple[str, Scene]]:
        for name, scene in source.scenes():
            write_image(Path(folder, "images", name), scene.image, jpeg_quality=_JPEG_QUALITY)
            yield name, scene
            if progress is not None:
                progress()

    path = Path(folder, "annotations", "person_keypoints.json")
    write_json(path, _coco_dataset(written(), source.skeleton, style), indent=None)
    return path


def _coco_dataset(
    scenes: Iterable[tuple[str, Scene]], skeleton: Skeleton, style: Style = "coco"
) -> dict[str, Any]:
    """A COCO-format mapping of (file name, scene) pairs; image ids start at 1.

    Unlabelled people have ``num_keypoints`` 0, as in COCO.
    """
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for image_id, (file_name, scene) in enumerate(scenes, start=1):
        entry = image_entry(image_id, file_name, scene.valid.shape)
        images.append(entry | {"crowdIndex": crowd_index(scene)})
        people += _person_entries(scene, image_id, skeleton.num_keypoints)
    if style == "crowdpose":
        for person in people:
            del person["area"]
    info = {"description": f"rendered crowds, {skeleton.name} keypoints"}
    return {"info": info, **dataset(images, people, skeleton.to_category())}


def _person_entries(scene: Scene, image_id: int, num_keypoints: int) -> Iterator[dict[str, Any]]:
    nothing = np.zeros((num_keypoints, 2)), np.full(num_keypoints, ABSENT)
    for person, (area, box) in enumerate(zip(scene.area.tolist(), scene.boxes.tolist(), strict=True)):
        labelled = person < len(scene.keypoints)
        points, visibility = (scene.keypoints[person], scene.visibility[person]) if labelled else nothing
        yield person_entry(image_id, points, visibility, box=box, area=area)
