"""The network's inputs at test time: their sizes, the image's position in them, and the warped images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from swahr.geometry import INDEX_FROM_POINT, POINT_FROM_INDEX, Affine, Alignment, fit_rectangle, warp_image

REFERENCE = 1.0  # the test scale at which tags are read

Size = tuple[int, int]
Images = Sequence[UInt8[np.ndarray, "_ _ 3"]]


def frame_sizes(
    image_size: Size, input_size: int, test_scales: Sequence[float], round_to: int, size_multiple: int
) -> dict[float, Size]:
    """Return the size (h, w) of the input frame for each test scale.

    As in HigherHRNet, the smallest is computed first: its short side is ``input_size * test_scale``, its long
    side has the image's proportion, both rounded up to a multiple of ``round_to``. The others are this times
    the ratio of test scales, rounded to a multiple of ``size_multiple`` (the published code rounds to whole
    pixels, and its network then fails on sizes such as 682).
    """
    smallest = min(test_scales)
    short = _round_up(smallest * input_size, round_to)
    long = _round_up(short / min(image_size) * max(image_size), round_to)
    h, w = (short, long) if image_size[0] <= image_size[1] else (long, short)
    sizes = {}
    for test_scale in test_scales:
        ratio = test_scale / smallest
        sizes[test_scale] = (_rescale(h, ratio, size_multiple), _rescale(w, ratio, size_multiple))
    return sizes


def input_frame(image_size: Size, input_size: Size, alignment: Alignment) -> Affine:
    """Return ``input_from_image``: the image fits the input's short side and is centred on the long one.

    ``centre`` is `swahr.geometry.fit_rectangle`. ``official`` is the same for pixel indices, about the
    image's centre rounded to a whole index.
    """
    if alignment == "centre":
        return fit_rectangle(image_size, input_size)
    (image_h, image_w), (input_h, input_w) = image_size, input_size
    factor = input_w / image_w if image_w < image_h else input_h / image_h
    centre_x, centre_y = float(int(image_w / 2 + 0.5)), float(int(image_h / 2 + 0.5))
    about_centre = Affine.scaling(factor) @ Affine.translation(-centre_x, -centre_y)
    return POINT_FROM_INDEX @ Affine.translation(input_w / 2, input_h / 2) @ about_centre @ INDEX_FROM_POINT


def resized_frame(source_size: Size, target_size: Size, alignment: Alignment) -> Affine:
    """Return the mapping from one input frame to another with the same content and another size."""
    scaling = Affine.scaling(target_size[1] / source_size[1], target_size[0] / source_size[0])
    return scaling if alignment == "centre" else POINT_FROM_INDEX @ scaling @ INDEX_FROM_POINT


def output_frame(stride: int, alignment: Alignment) -> Affine:
    """Return ``map_from_input`` for decoding maps of a stride (1 after projection to the input's size).

    ``centre`` is a pure scaling. ``official`` treats map positions times the stride as pixel *indices* of the
    input, as in the published code. On average this undoes both its index-aligned training maps
    (`swahr.geometry.map_from_input`) and their truncated centres, which lie half a map pixel before the
    keypoint.
    """
    scaling = Affine.scaling(1.0 / stride)
    return scaling if alignment == "centre" else scaling @ INDEX_FROM_POINT


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch of RGB images at every test scale. Frame: input.

    ``reference`` has test scale 1; ``input_from_image`` maps each image to its frame.
    """

    reference: UInt8[Tensor, "b 3 H W"]
    others: tuple[UInt8[Tensor, "b 3 _ _"], ...]
    input_from_image: tuple[Affine, ...]

    def to(self, device: torch.device) -> Inputs:
        """Return a copy on ``device``; copies from pinned memory are asynchronous."""
        return self._each(lambda images: images.to(device, non_blocking=True))

    def pin_memory(self) -> Inputs:
        """Return a copy in pinned memory."""
        return self._each(Tensor.pin_memory)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory until the work queued on ``stream`` is done."""
        for images in (self.reference, *self.others):
            images.record_stream(stream)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return replace(self, reference=change(self.reference), others=tuple(map(change, self.others)))


def warp_inputs(images: Images, sizes: Mapping[float, Size], alignment: Alignment) -> Inputs:
    """Warp images into input frames whose sizes (h, w) are given by test scale."""
    reference = sizes[REFERENCE]
    frames = tuple(input_frame(image.shape[:2], reference, alignment) for image in images)
    tensors = {}
    for test_scale, size in sizes.items():
        resized = resized_frame(reference, size, alignment)
        warped = [
            warp_image(image, resized @ frame, size) for image, frame in zip(images, frames, strict=True)
        ]
        tensors[test_scale] = torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2).contiguous()
    return Inputs(tensors.pop(REFERENCE), tuple(tensors.values()), frames)


def _round_up(length: float, multiple: int) -> int:
    return -(-int(length) // multiple) * multiple


def _rescale(length: int, ratio: float, multiple: int) -> int:
    return max(1, round(length * ratio / multiple)) * multiple
