"""The records that flow between the stages, each frozen and each in a named frame.

Axis letters: ``b`` batch, ``p`` people, ``k`` keypoints, ``m`` peaks per keypoint, ``t`` tag dimensions,
``h w`` map, ``H W`` image. Coordinates are (x, y), sizes (h, w). Frames: *image* (the file), *input* (the
network's), *map* (one stride); see `swahr.geometry` for the pixel convention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from swahr.geometry import Affine
from swahr.skeleton import Skeleton

VISIBLE, OCCLUDED, ABSENT = 2, 1, 0
"""COCO visibility: labelled and visible, labelled but hidden, not labelled."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The people of one image, in the frame of the image it accompanies."""

    keypoints: Float64[np.ndarray, "p k 2"]
    visibility: Int64[np.ndarray, "p k"]
    area: Float64[np.ndarray, " p"]

    def __len__(self) -> int:
        """The number of people."""
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image as it was read, with what is known about it. Frame: image.

    ``valid`` is False where nothing may be learned: crowd regions and people without labelled keypoints.
    """

    image: UInt8[np.ndarray, "H W 3"]
    annotations: Annotations
    valid: Bool[np.ndarray, "H W"]
    image_id: int


@dataclass(frozen=True, eq=False)
class Sample:
    """One training example. Frame: input. RGB, not normalised: networks normalise on their own device."""

    image: UInt8[np.ndarray, "H W 3"]
    annotations: Annotations
    valid: Bool[np.ndarray, "H W"]
    image_id: int
    input_from_image: Affine


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one size. Frame: input. Absent people have visibility 0; ``p`` is the largest count.

    Targets are made from it on the training device (`swahr.target`), so that loaders only warp images.
    """

    images: UInt8[Tensor, "b 3 H W"]
    keypoints: Float32[Tensor, "b p k 2"]
    visibility: Int64[Tensor, "b p k"]
    valid: Bool[Tensor, "b H W"]
    image_ids: tuple[int, ...]
    input_from_image: tuple[Affine, ...]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on ``device``."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _BATCH_TENSORS}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by PyTorch's loader)."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _BATCH_TENSORS})


_BATCH_TENSORS = ("images", "keypoints", "visibility", "valid")


@dataclass(frozen=True, eq=False)
class MapTargets:
    """What one stride is taught. Frame: map."""

    heatmaps: Float[Tensor, "b k h w"]
    valid: Bool[Tensor, "b h w"]
    stride: int


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of a batch: heatmaps per stride, coarse to fine, and where to read tags.

    ``tag_index`` holds ``y * w + x`` on the coarsest map, -1 where a keypoint is absent or off the map.
    """

    maps: tuple[MapTargets, ...]
    tag_index: Int64[Tensor, "b p k"]


@dataclass(frozen=True, eq=False)
class Maps:
    """What a network says at one stride. Frame: map. Fields whose head is switched off are None."""

    heatmaps: Float[Tensor, "b k h w"]
    tags: Float[Tensor, "b k h w"] | None
    scales: Float[Tensor, "b k h w"] | None
    weights: Float[Tensor, "b k h w"] | None
    stride: int


NetworkOutput = tuple[Maps, ...]
"""One `Maps` per stride, coarse to fine; tags come with the first."""


@dataclass(frozen=True, eq=False)
class DenseMaps:
    """Aggregated maps of images of one size: flips, test scales and strides merged. Frame: map.

    ``tags`` gathers one dimension per tag map (two with flip test). ``map_from_image`` is one per image.
    """

    heatmaps: Float[Tensor, "b k h w"]
    tags: Float[Tensor, "b k h w t"]
    scales: Float[Tensor, "b k h w"] | None
    map_from_image: tuple[Affine, ...]


@dataclass(frozen=True, eq=False)
class Peaks:
    """The m best local maxima of every heatmap, best first. Frame: map (continuous: pixel centres at +0.5).

    Entries without a peak have score 0.
    """

    positions: Float[Tensor, "b k m 2"]
    scores: Float[Tensor, "b k m"]
    tags: Float[Tensor, "b k m t"]


@dataclass(frozen=True, eq=False)
class Groups:
    """Peaks of one image assembled into people, in order of discovery. Frame: map.

    ``tag`` is each person's mean tag. Where ``present`` is False position and score are 0.
    """

    positions: Float64[np.ndarray, "p k 2"]
    scores: Float64[np.ndarray, "p k"]
    present: Bool[np.ndarray, "p k"]
    tag: Float64[np.ndarray, "p t"]

    def __len__(self) -> int:
        """The number of people."""
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Poses:
    """The people found in one image. Frame: image.

    A missing keypoint has ``present`` False (and NaN coordinates, score 0), never the position (0, 0).
    No people: shapes ``(0, k, 2)``, ``(0, k)``, ``(0,)``.
    """

    keypoints: Float64[np.ndarray, "p k 2"]
    scores: Float64[np.ndarray, "p k"]
    score: Float64[np.ndarray, " p"]
    present: Bool[np.ndarray, "p k"]
    skeleton: Skeleton

    def __len__(self) -> int:
        """The number of people."""
        return len(self.keypoints)
