"""A simulated network: heatmaps, tags and scale maps of annotated people, disturbed by a noise model.

No network is trained and no image is read. Random numbers of an image do not depend on how its maps are
drawn, merged or decoded, so that all variants of a study have the same errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from crowds import Crowd
from torch import Tensor

from swahr.geometry import Affine, Alignment
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, Maps, NetworkOutput
from swahr.targets.pixels import Centre, centre_pixels, map_indices

Array = npt.NDArray[np.float32]
_VIEWS = 2  # the input and its mirror image
_OWN_RADIUS = 7  # pixels of the map around a keypoint that have its tag and its scale: the target's support


@dataclass(frozen=True)
class NoiseModel:
    """Sizes of the network's errors.

    Attributes:
        height: lowest and highest maximum of a keypoint's heat; uniform between them.
        width: spread of ln(width / target width) of a keypoint's Gaussian, normal.
        scale_map: error of the scale map, normal; the exact value is 1/s^2 - 1 for the width's factor s.
        shift: displacement of a keypoint in x and in y, normal; 1 is COCO's sigma of the keypoint type times
            the square root of the person's area, the disagreement of annotators.
        background: of the heatmaps everywhere, normal, correlated over a pixel or two.
        missing: share of labelled keypoints whose heat stays below ``faint``, uniform from 0.
        faint: see ``missing``; below the threshold of peaks.
        spurious: wrong peaks per labelled keypoint, of any keypoint type, uniform in the boxes of people,
            half as high as ``height``.
        tag_gap: distance between the tags of one person and the next.
        tag_spread: deviation of keypoints' tags from their person's, normal; independent in the mirror image.
    """

    height: tuple[float, float]
    width: float
    scale_map: float
    shift: float
    background: float
    missing: float
    faint: float
    spurious: float
    tag_gap: float
    tag_spread: float


@dataclass(frozen=True, eq=False)
class Scene:
    """The people of one image as the network predicts them. Frame: image.

    Of ``n`` peaks, the spurious ones last: ``points (n 2)``, ``keypoint (n)`` types, ``person (n)`` (-1:
    spurious), ``height (n)``, ``width (n)`` as a multiple of the target's, ``scale (n)`` the scale map's
    value, ``tags (2 n)`` per view. Of ``p`` people: ``shown (p k 2)`` where each labelled keypoint appears
    (NaN elsewhere), ``boxes (p 4)`` of these, tags ``means (p)``.
    """

    points: npt.NDArray[np.float64]
    keypoint: npt.NDArray[np.int64]
    person: npt.NDArray[np.int64]
    height: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    tags: npt.NDArray[np.float64]
    shown: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]


def draw_scene(crowd: Crowd, noise: NoiseModel, skeleton: Skeleton, rng: np.random.Generator) -> Scene:
    """The errors of the network in one image."""
    people = crowd.people
    person, keypoint = np.nonzero(people.visibility > ABSENT)
    count = len(person)
    means = noise.tag_gap * rng.permutation(len(people)).astype(np.float64)
    disagreement = np.array(skeleton.sigmas)[keypoint] * np.sqrt(people.area[person])
    displacement = noise.shift * disagreement[:, None] * rng.normal(size=(count, 2))
    points = people.keypoints[person, keypoint] + displacement
    shown = np.full(people.keypoints.shape, np.nan)
    shown[person, keypoint] = points
    boxes = np.zeros((0, 4))
    if count:
        boxes = np.concatenate([np.nanmin(shown, axis=1), np.nanmax(shown, axis=1)], axis=1)
    height = rng.uniform(*noise.height, count)
    faint = rng.uniform(0, noise.faint, count)
    height = np.where(rng.random(count) < noise.missing, faint, height)
    tags = means[person] + rng.normal(0, noise.tag_spread, (_VIEWS, count))
    wrong = rng.poisson(noise.spurious * count) if count else 0
    around = boxes[rng.integers(0, len(boxes), wrong)] if wrong else np.zeros((0, 4))
    width = np.exp(rng.normal(0, noise.width, count + wrong))
    return Scene(
        points=np.concatenate([points, rng.uniform(around[:, :2], around[:, 2:])]),
        keypoint=np.concatenate([keypoint, rng.integers(0, skeleton.num_keypoints, wrong)]),
        person=np.concatenate([person, np.full(wrong, -1)]),
        height=np.concatenate([height, 0.5 * rng.uniform(*noise.height, wrong)]),
        width=width,
        scale=width**-2 - 1 + rng.normal(0, noise.scale_map, count + wrong),
        tags=np.concatenate([tags, np.zeros((_VIEWS, wrong))], axis=1),
        shown=shown,
        boxes=boxes,
        means=means,
    )


class Background:
    """Smooth normal noise for maps of any size up to ``size`` (h, w): windows of one large field.

    Args:
        planes: the number of keypoints.
        size: of the largest map.
        spread: standard deviation.
        rng: generates the field.
    """

    def __init__(self, planes: int, size: tuple[int, int], spread: float, rng: np.random.Generator) -> None:
        margin = 64  # so that windows of the largest map also differ
        field = rng.standard_normal((planes, size[0] + margin, size[1] + margin), dtype=np.float32)
        smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 1.0) for plane in field])
        self.field = (spread / smooth.std() * smooth).astype(np.float32)

    def window(self, rng: np.random.Generator, size: tuple[int, int]) -> Array:
        """A window of the field at a random position, its planes rotated at random."""
        planes, height, width = self.field.shape
        y, x = rng.integers(0, height - size[0] + 1), rng.integers(0, width - size[1] + 1)
        return np.roll(self.field[:, y : y + size[0], x : x + size[1]], int(rng.integers(planes)), axis=0)


class NoisyNetwork:
    """Predicts the maps of a scene for an input, or for its mirror image.

    The left half of the input must be darker than the right half, so that mirror images can be recognised.

    Args:
        scene: the people. Frame: image.
        input_from_image: transforms the scene into the input.
        flip_permutation: for each keypoint the index of its mirror image.
        strides: of the maps, coarse to fine.
        centre: where Gaussians are centred, see `swahr.targets.TargetEncoder`.
        alignment: alignment of maps and input, likewise.
        sigma: width of the target Gaussians, pixels of the map.
        background: noise of the heatmaps.
        seed: of the background's windows.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        input_from_image: Affine,
        flip_permutation: Sequence[int],
        strides: Sequence[int],
        centre: Centre,
        alignment: Alignment,
        sigma: float,
        background: Background,
        seed: int,
    ) -> None:
        self.scene = scene
        self.points = input_from_image.apply(scene.points)
        self.boxes = input_from_image.apply(scene.boxes.reshape(-1, 2)).reshape(-1, 4)
        self.permutation = np.array(flip_permutation)
        self.strides = tuple(strides)
        self.centre: Centre = centre
        self.alignment: Alignment = alignment
        self.sigma = sigma
        self.background = background
        self.seed = seed
        self.predicted: dict[bool, NetworkOutput] = {}

    def __call__(self, inputs: Tensor) -> NetworkOutput:
        """Return one `Maps` per stride; each view is drawn only once."""
        row = inputs[0, 0, inputs.shape[2] // 2].float()
        half = len(row) // 2
        mirrored = bool(row[:half].mean() > row[half:].mean())
        if mirrored not in self.predicted:
            self.predicted[mirrored] = self._draw((inputs.shape[2], inputs.shape[3]), mirrored)
        return self.predicted[mirrored]

    def _draw(self, size: tuple[int, int], mirrored: bool) -> NetworkOutput:
        points, boxes, keypoint = self.points, self.boxes, self.scene.keypoint
        if mirrored:
            flip = Affine.horizontal_flip(size[1])
            points, keypoint = flip.apply(points), self.permutation[keypoint]
            boxes = flip.apply(boxes.reshape(-1, 2)).reshape(-1, 4)[:, [2, 1, 0, 3]]
        maps = []
        for i, stride in enumerate(self.strides):
            canvas = _Canvas(len(self.permutation), (size[0] // stride, size[1] // stride))
            if i == 0:
                canvas.fill_tags(boxes / stride, self.scene.means)
            self._draw_peaks(canvas, points, keypoint, stride, self.scene.tags[int(mirrored)])
            rng = np.random.default_rng((self.seed, stride, mirrored))
            canvas.heat += self.background.window(rng, canvas.heat.shape[1:])
            fields = {"heatmaps": canvas.heat, "scale_maps": canvas.scale_maps}
            if i == 0:
                fields["tags"] = canvas.tags
            maps.append(Maps(stride, {name: torch.from_numpy(own)[None] for name, own in fields.items()}))
        return tuple(maps)

    def _draw_peaks(
        self, canvas: _Canvas, points: npt.NDArray[np.float64], keypoint: npt.NDArray[np.int64], stride: int,
        tags: npt.NDArray[np.float64],
    ) -> None:  # fmt: skip
        indices = map_indices(torch.from_numpy(points).float(), stride, self.alignment)
        pixels = centre_pixels(indices, self.centre, self.alignment)
        centres = pixels.float() if self.centre == "truncated" else indices
        scene = self.scene
        for i, (centre, pixel) in enumerate(zip(centres.tolist(), pixels.tolist(), strict=True)):
            own = scene.person[i] >= 0
            canvas.add_peak(
                int(keypoint[i]), pixel, centre,
                height=scene.height[i], sigma=self.sigma * scene.width[i],
                tag=tags[i] if own else None, scale=scene.scale[i] if own else None,
            )  # fmt: skip


class _Canvas:
    """Maps of one stride, ``(k h w)`` each, to draw on."""

    def __init__(self, planes: int, size: tuple[int, int]) -> None:
        self.heat, self.tags, self.scale_maps = (
            np.zeros((planes, *size), dtype=np.float32) for _ in range(3)
        )

    def fill_tags(self, boxes: npt.NDArray[np.float64], means: npt.NDArray[np.float64]) -> None:
        """Fill each person's box with its mean tag, smaller people last."""
        self.tags[:] = means.min(initial=0.0) - 10.0  # of no person
        size = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        for i in np.argsort(-size):
            left, top, right, bottom = boxes[i].astype(int).clip(min=0).tolist()
            self.tags[:, top : bottom + 1, left : right + 1] = means[i]

    def add_peak(
        self, keypoint: int, pixel: Sequence[int], centre: Sequence[float], *, height: float, sigma: float,
        tag: float | None, scale: float | None,
    ) -> None:  # fmt: skip
        """Draw a peak by maximum; set tags and scale map around it, where it is the highest."""
        _, h, w = self.heat.shape
        if not (0 <= pixel[0] < w and 0 <= pixel[1] < h):
            return  # as in the targets, which draw no keypoint off the map
        reach = math.ceil(3 * sigma) + 1
        left, top = max(0, pixel[0] - reach), max(0, pixel[1] - reach)
        right, bottom = min(w, pixel[0] + reach + 1), min(h, pixel[1] + reach + 1)
        x, y = np.arange(left, right), np.arange(top, bottom)
        squared = (x - centre[0]) ** 2 + (y - centre[1])[:, None] ** 2
        peak = (height * np.exp(-squared / (2 * sigma**2))).astype(np.float32)
        patch = (keypoint, slice(top, bottom), slice(left, right))
        if tag is not None and scale is not None:
            own = np.maximum(np.abs(x - pixel[0]), np.abs(y - pixel[1])[:, None]) <= _OWN_RADIUS
            own &= peak >= self.heat[patch]
            self.tags[patch][own] = tag
            self.scale_maps[patch][own] = scale
        np.maximum(self.heat[patch], peak, out=self.heat[patch])
