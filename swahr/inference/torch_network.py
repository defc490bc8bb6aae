"""A network in PyTorch, made ready for inference."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from swahr.model import HigherHRNet, fold_batch_norm
from swahr.structures import NetworkOutput

Precision = Literal["fp32", "bf16", "fp16"]


class TorchNetwork:
    """Images to maps, with batch norm folded and the arithmetic of choice.

    Args:
        network: is copied.
        device: where to run; None takes the GPU if there is one.
        precision: ``bf16`` and ``fp16`` are autocast, which keeps in float32 what needs it.
        channels_last: the memory layout of the weights, which the images follow.
        compile: let TorchInductor make kernels: minutes at first, and once more for a second input size.

    Attributes:
        device: where it runs.
        strides: of the maps, coarse to fine.

    Raises:
        ValueError: CUDA is asked for where there is none, or the precision is unknown.
    """

    def __init__(
        self,
        network: HigherHRNet,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "fp32",
        channels_last: bool = True,
        compile: bool = False,  # noqa: A002 - PyTorch's own word
    ) -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"expected precision {', '.join(get_args(Precision))}, got {precision!r}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device {str(device)!r} was asked for, but PyTorch {torch.__version__} sees no GPU; use cpu"
            )
        self.strides = network.strides
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._network = fold_batch_norm(network).to(self.device, memory_format=layout)  # type: ignore[call-overload] # torch's stubs lack it
        if compile:
            self._network.compile()
        self._autocast = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def __call__(self, images: UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"]) -> NetworkOutput:
        """Predict maps of RGB images on the device; float images are taken as normalised."""
        autocast = torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None)
        with torch.inference_mode(), autocast:
            output: NetworkOutput = self._network(images)
        return output
