"""Images warped into the network's input frames: made on the CPU, then moved to where the network is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from swahr.aggregate.frames import Size, input_frame, resized_frame
from swahr.geometry import Affine, Alignment, warp_image

REFERENCE = 1.0  # the test scale at which tags are read

Images = Sequence[UInt8[np.ndarray, "_ _ 3"]]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch of RGB images at every test scale. Frame: input.

    ``reference`` is at test scale 1, in the frame that ``input_from_image`` (one per image) leads to.
    """

    reference: UInt8[Tensor, "b 3 H W"]
    others: tuple[UInt8[Tensor, "b 3 _ _"], ...]
    input_from_image: tuple[Affine, ...]

    def to(self, device: torch.device) -> Inputs:
        """The same images on ``device``; those in page-locked memory travel while the caller goes on."""
        return self._each(lambda images: images.to(device, non_blocking=True))

    def pin_memory(self) -> Inputs:
        """The same images in page-locked memory."""
        return self._each(Tensor.pin_memory)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory until what ``stream`` does with it is done."""
        for images in (self.reference, *self.others):
            images.record_stream(stream)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return replace(self, reference=change(self.reference), others=tuple(map(change, self.others)))


def warp_inputs(images: Images, sizes: Mapping[float, Size], alignment: Alignment) -> Inputs:
    """Warp images into the input frames of these sizes by test scale."""
    reference = sizes[REFERENCE]
    frames = tuple(input_frame(image.shape[:2], reference, alignment) for image in images)
    tensors = {}
    for test_scale, size in sizes.items():
        resized = resized_frame(reference, size, alignment)
        tensors[test_scale] = _warp(images, [resized @ frame for frame in frames], size)
    return Inputs(tensors.pop(REFERENCE), tuple(tensors.values()), frames)


def _warp(images: Images, frames: Sequence[Affine], size: Size) -> UInt8[Tensor, "b 3 H W"]:
    warped = [warp_image(image, frame, size) for image, frame in zip(images, frames, strict=True)]
    return torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2).contiguous()
