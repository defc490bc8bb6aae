"""The data classes that stages exchange: frozen, each in a named coordinate frame.

Axis letters: ``b`` batch, ``p`` people, ``k`` keypoints, ``m`` peaks per keypoint, ``t`` tag dimensions,
``h w`` map, ``H W`` image. Coordinates are (x, y), sizes (h, w). Frames: *image* (the file), *input* (of the
network), *map* (of one stride); `swahr.geometry` defines the pixel convention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    """The annotated people of one image. Frame: that of the image beside them."""

    keypoints: Float64[np.ndarray, "p k 2"]
    visibility: Int64[np.ndarray, "p k"]
    area: Float64[np.ndarray, " p"]

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An unmodified image with its annotations. Frame: image."""

    image: UInt8[np.ndarray, "H W 3"]
    annotations: Annotations
    valid: Bool[np.ndarray, "H W"]  # False in crowds and in people without labelled keypoints
    image_id: int


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample: an RGB image, normalised later by the network, and annotations. Frame: input."""

    image: UInt8[np.ndarray, "H W 3"]
    annotations: Annotations
    valid: Bool[np.ndarray, "H W"]
    image_id: int
    input_from_image: Affine
    condition: Float64[np.ndarray, "k 2"] | None = None  # a first stage's pose, NaN where it misses keypoints


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one size; ``p`` is the maximum number of people, the padding is `ABSENT`. Frame: input."""

    images: UInt8[Tensor, "b 3 H W"]
    keypoints: Float32[Tensor, "b p k 2"]
    visibility: Int64[Tensor, "b p k"]
    valid: Bool[Tensor, "b H W"]
    image_ids: tuple[int, ...]
    input_from_image: tuple[Affine, ...]
    condition: Float32[Tensor, "b k 2"] | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on ``device``."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch with its tensors in page-locked memory (PyTorch's loader calls this)."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        moved: Any = {name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network is given: the images, and the condition if there is one."""
        return (self.images,) if self.condition is None else (self.images, self.condition)


class NamedMaps:
    """Maps by name, with a property for each name that this package defines.

    Properties of missing maps are None; ``heatmaps`` are always present.
    """

    fields: Mapping[str, Tensor]

    @property
    def heatmaps(self) -> Float[Tensor, "*b k h w"]:
        """One heatmap per keypoint."""
        return self.fields["heatmaps"]

    @property
    def tags(self) -> Float[Tensor, "*b k h w"] | None:
        """One tag per keypoint; aggregated ones are ``(b k h w t)``, with a tag dimension per flip."""
        return self.fields.get("tags")

    @property
    def scale_maps(self) -> Float[Tensor, "*b k h w"] | None:
        """SAHR's alpha = 1 / s^2 - 1, where the standard deviation of the Gaussian is sigma * s."""
        return self.fields.get("scale_maps")

    @property
    def log_weight_maps(self) -> Float[Tensor, "*b k h w"] | None:
        """The logarithms v of learned loss weights exp(v)."""
        return self.fields.get("log_weight_maps")

    @property
    def occlusion(self) -> Float[Tensor, "*b k h w"] | None:
        """Heatmaps of hidden keypoints alone."""
        return self.fields.get("occlusion")


@dataclass(frozen=True, eq=False)
class MapTargets(NamedMaps):
    """Training targets at one stride, by map name. Frame: map. The loss ignores pixels not in ``valid``."""

    stride: int
    valid: Bool[Tensor, "b h w"]
    fields: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of a batch: one `MapTargets` per stride, coarse to fine, and the pixels at which tags are read.

    ``tag_index`` is ``y * w + x`` on the coarsest map, or -1 if a keypoint is absent or off the map.
    """

    maps: tuple[MapTargets, ...]
    tag_index: Int64[Tensor, "b p k"]


@dataclass(frozen=True, eq=False)
class Maps(NamedMaps):
    """Network outputs at one stride, by name: one map ``(b c h w)`` per head. Frame: map."""

    stride: int
    fields: Mapping[str, Tensor]


NetworkOutput = tuple[Maps, ...]
"""One `Maps` per stride, coarse to fine; only the first has tags."""


@dataclass(frozen=True, eq=False)
class DenseMaps(NamedMaps):
    """Maps of images of one size, merged over flips, test scales and strides. Frame: map.

    ``map_from_image`` has one affine map per image.
    """

    fields: Mapping[str, Tensor]
    map_from_image: tuple[Affine, ...]

    def of_image(self, index: int) -> ImageMaps:
        """The maps of one image of the batch."""
        return ImageMaps({name: maps[index] for name, maps in self.fields.items()})


@dataclass(frozen=True, eq=False)
class ImageMaps(NamedMaps):
    """One image's `DenseMaps`, without the batch axis. Frame: map."""

    fields: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Peaks:
    """The m highest local maxima of every heatmap, in descending order; score 0 if missing. Frame: map."""

    positions: Float[Tensor, "b k m 2"]
    scores: Float[Tensor, "b k m"]
    tags: Float[Tensor, "b k m t"]


@dataclass(frozen=True, eq=False)
class Groups:
    """Peaks of one image, grouped into people, in the order in which they were found. Frame: map.

    ``tag`` is the mean tag of each person. Where ``present`` is False, position and score are 0.
    """

    positions: Float64[np.ndarray, "p k 2"]
    scores: Float64[np.ndarray, "p k"]
    present: Bool[np.ndarray, "p k"]
    tag: Float64[np.ndarray, "p t"]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Poses:
    """The predicted people of one image. Frame: image.

    Where ``present`` is False, coordinates are NaN and the score is 0. Without people the shapes are
    ``(0, k, 2)``, ``(0, k)`` and ``(0,)``. ``occluded`` is from 0 (visible) to 1 (hidden), 0 where not
    ``present``; None if the network predicts no occlusion maps.
    """

    keypoints: Float64[np.ndarray, "p k 2"]
    scores: Float64[np.ndarray, "p k"]
    score: Float64[np.ndarray, " p"]
    present: Bool[np.ndarray, "p k"]
    skeleton: Skeleton
    occluded: Float64[np.ndarray, "p k"] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def hidden(self) -> Bool[np.ndarray, "p k"]:
        """The keypoints that are likelier hidden than visible; none without occlusion maps."""
        return np.zeros_like(self.present) if self.occluded is None else self.present & (self.occluded >= 0.5)

    @classmethod
    def nobody(cls, skeleton: Skeleton) -> Poses:
        """No people."""
        none = np.zeros((0, skeleton.num_keypoints))
        return cls(np.zeros((*none.shape, 2)), none, np.zeros(0), none.astype(bool), skeleton)

    def select(self, keep: Bool[np.ndarray, " p"] | Int64[np.ndarray, " n"] | Sequence[int]) -> Poses:
        """The people chosen by a boolean mask or by indices, in the order of the indices."""
        kept: Any = {name: value[keep] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **kept)
