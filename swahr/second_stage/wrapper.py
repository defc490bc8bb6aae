"""What networks around a single-person network have in common."""

from math import lcm
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swahr.model.higherhrnet import IMAGENET_MEAN, IMAGENET_STD, RgbImages

NormalisedImages = Float[Tensor, "b 3 H W"]


class NetworkWrapper(nn.Module):
    """A network around another one, ``network``, with the strides of that one.

    Heights and widths of images must be multiples of ``size_multiple``: that of the other, and ``multiples``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *multiples: int) -> None:
        super().__init__()
        inner: Any = network
        self.network = network
        self.strides = tuple(inner.strides)
        self.size_multiple = lcm(inner.size_multiple, *multiples)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def normalised(self, images: RgbImages) -> NormalisedImages:
        """Normalise uint8 images as `swahr.model.HigherHRNet` does; float images are normalised already."""
        if images.dtype != torch.uint8:
            return images
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std

    def keypoint_rows(self) -> dict[str, list[int]]:
        """See `swahr.runs.initial_weights.KeypointNetwork`."""
        network: Any = self.network
        return {f"network.{name}": rows for name, rows in network.keypoint_rows().items()}
