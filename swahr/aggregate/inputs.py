"""Images warped into the network's input frames on the CPU, and moved to the network's device."""

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
        tensors[test_scale] = _warp(images, [resized @ frame for frame in frames], size)
    return Inputs(tensors.pop(REFERENCE), tuple(tensors.values()), frames)


def _warp(images: Images, frames: Sequence[Affine], size: Size) -> UInt8[Tensor, "b 3 H W"]:
    warped = [warp_image(image, frame, size) for image, frame in zip(images, frames, strict=True)]
    return torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2).contiguous()
