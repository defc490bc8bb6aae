"""The pixel convention, and affine maps between coordinate frames.

Coordinates are continuous: an image of size (H, W) spans [0, W] x [0, H], and the pixel in row j and column i
has its centre at (i + 0.5, j + 0.5). Resizing is therefore a pure scaling (as with ``align_corners=False``),
and a horizontal flip is ``W - x``. Half a pixel is added or subtracted only in conversions from or to pixel
indices: of COCO JSON, of OpenCV, of map tensors, and of the ``official`` alignment.

Matrices are named target-from-source, and products apply from right to left::

    map_from_image = map_from_input @ input_from_image
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Shaped

Alignment = Literal["centre", "official"]


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map ``x -> A x + b`` of continuous (x, y) coordinates; ``matrix`` is ``[A | b]``."""

    matrix: Float64[np.ndarray, "2 3"]

    @classmethod
    def identity(cls) -> Affine:
        """The identity map."""
        return cls.scaling(1.0)

    @classmethod
    def scaling(cls, x: float, y: float | None = None) -> Affine:
        """Scaling about the origin; ``y`` defaults to ``x``."""
        return cls(np.array([[x, 0.0, 0.0], [0.0, x if y is None else y, 0.0]]))

    @classmethod
    def translation(cls, x: float, y: float) -> Affine:
        """Translation by (x, y) pixels."""
        return cls(np.array([[1.0, 0.0, x], [0.0, 1.0, y]]))

    @classmethod
    def rotation(cls, degrees: float) -> Affine:
        """Rotation about the origin, clockwise as displayed (the y axis points down)."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return cls(np.array([[c, -s, 0.0], [s, c, 0.0]]))

    @classmethod
    def horizontal_flip(cls, width: float) -> Affine:
        """Mirror image of an image ``width`` pixels wide: ``x -> width - x``."""
        return cls(np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0]]))

    def __matmul__(self, other: Affine) -> Affine:
        """The map that applies ``other`` first, then ``self``."""
        a, b = self.matrix, other.matrix
        linear = a[:, :2] @ b[:, :2]
        return Affine(np.concatenate([linear, a[:, :2] @ b[:, 2:] + a[:, 2:]], axis=1))

    def inverse(self) -> Affine:
        """The inverse map.

        Raises:
            ValueError: the map is singular.
        """
        if abs(self.area_ratio) < 1e-12:
            raise ValueError(f"expected an invertible map, got the singular matrix {self.matrix.tolist()}")
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.concatenate([linear, -linear @ self.matrix[:, 2:]], axis=1))

    def apply(self, points: Shaped[np.ndarray, "*n 2"]) -> Float64[np.ndarray, "*n 2"]:
        """Map points (x, y) from the source to the target frame."""
        mapped: np.ndarray = np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return mapped

    @property
    def area_ratio(self) -> float:
        """Signed factor on areas; negative if the map mirrors."""
        (a, b), (c, d) = self.matrix[:, :2].tolist()
        return float(a * d - b * c)

    @property
    def length_ratio(self) -> float:
        """Factor on lengths: the square root of the absolute area ratio."""
        return math.sqrt(abs(self.area_ratio))


POINT_FROM_INDEX = Affine.translation(0.5, 0.5)
"""From pixel indices (COCO JSON, OpenCV) to continuous coordinates."""

INDEX_FROM_POINT = Affine.translation(-0.5, -0.5)
"""From continuous coordinates to pixel indices."""


def map_from_input(stride: int, alignment: Alignment = "centre") -> Affine:
    """The affine map from the network's input frame to the map frame of a stride.

    ``centre``: a pure scaling, consistent with ``align_corners=False`` upsampling. ``official``: a scaling of
    pixel *indices*, for the published weights (HigherHRNet's and SWAHR's data loaders scale the coordinates
    of the JSON files); the half pixel is not scaled.
    """
    scaling = Affine.scaling(1.0 / stride)
    return scaling if alignment == "centre" else POINT_FROM_INDEX @ scaling @ INDEX_FROM_POINT


def fit_rectangle(source_size: tuple[int, int], target_size: tuple[int, int]) -> Affine:
    """The affine map that centres ``source_size`` in ``target_size`` (h, w), keeping the aspect ratio."""
    (source_h, source_w), (target_h, target_w) = source_size, target_size
    factor = min(target_h / source_h, target_w / source_w)
    shift = Affine.translation((target_w - factor * source_w) / 2, (target_h - factor * source_h) / 2)
    return shift @ Affine.scaling(factor)


def person_frame(
    keypoints: Float64[np.ndarray, "k 2"], size: tuple[int, int], *, enlarge: float, smallest: float = 32.0
) -> Affine:
    """The affine map from an image to a crop of ``size`` (h, w) around a person's keypoints.

    Their bounding box is enlarged by the factor ``enlarge`` about its centre, to sides of ``smallest`` pixels
    at least, and then extended to the aspect ratio of the crop; lengths are not distorted.
    """
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    w, h = np.maximum((high - low) * enlarge, smallest)
    x, y = -(low + high) / 2
    scaled = Affine.scaling(float(min(size[0] / h, size[1] / w))) @ Affine.translation(float(x), float(y))
    return Affine.translation(size[1] / 2, size[0] / 2) @ scaled


def warp_image(
    image: npt.NDArray[np.uint8],
    target_from_source: Affine,
    size: tuple[int, int],
    *,
    nearest: bool = False,
    border: int = 0,
) -> npt.NDArray[np.uint8]:
    """Warp an image ``(H, W)`` or ``(H, W, C)`` into a frame of ``size`` (h, w).

    Interpolation is bilinear, or ``nearest`` for masks; pixels outside the source are ``border``.
    """
    matrix = (INDEX_FROM_POINT @ target_from_source @ POINT_FROM_INDEX).matrix
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    warped = cv2.warpAffine(image, matrix, size[::-1], flags=flags, borderValue=(border, border, border))
    return np.asarray(warped, dtype=np.uint8)
