"""Inference in PyTorch."""

import textwrap
from copy import deepcopy
from itertools import pairwise
from typing import Literal, TypeVar, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from swahr.choices import check_choice, check_setting
from swahr.structures import NetworkOutput

Precision = Literal["fp32", "bf16", "fp16"]
Network = TypeVar("Network", bound=nn.Module)


class TorchNetwork:
    """Predicts maps with a copy of a network in which batch norm is folded.

    Args:
        network: predicts maps (`swahr.model.HigherHRNet`).
        device: see `find_device`.
        precision: ``fp32``, or ``bf16`` and ``fp16`` by autocast.
        channels_last: whether weights and activations have the channels-last memory layout.
        compile: whether to compile with TorchInductor, which takes minutes for each of the first two sizes.

    Attributes:
        device: the device.
        strides: strides of the maps, coarse to fine.
        size_multiple: heights and widths of images must be multiples of it.

    Raises:
        ValueError: the device is not available, or the precision is unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str | int | torch.device | None = None,
        precision: Precision = "fp32",
        channels_last: bool = True,
        compile: bool = False,  # noqa: A002 - PyTorch's own word
    ) -> None:
        check_choice("precision", precision, get_args(Precision))
        check_setting("channels_last", channels_last, bool)
        check_setting("compile", compile, bool)
        self.device = find_device(device)
        self.strides: tuple[int, ...] = tuple(network.strides)  # type: ignore[arg-type] # an attribute of ours
        self.size_multiple = int(network.size_multiple)  # type: ignore[arg-type] # an attribute of ours
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._network = fold_batch_norm(network).to(self.device, memory_format=layout)  # type: ignore[call-overload] # torch's stubs lack it
        if compile:
            self._network.compile()
        self._autocast = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def __call__(
        self, images: UInt8[Tensor, "b 3 H W"] | Float[Tensor, "b 3 H W"], *further: Tensor
    ) -> NetworkOutput:
        """Predict maps of RGB images on the device, which must be normalised if they are floats.

        Further inputs are those of a network that has any, such as `swahr.second_stage.ConditionedNetwork`.
        """
        autocast = torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None)
        with torch.inference_mode(), autocast:
            output: NetworkOutput = self._network(images, *further)
        return output


def find_device(device: str | int | torch.device | None) -> torch.device:
    """A device by its name, such as ``cpu`` or ``cuda:1``, or a GPU by its number.

    None selects the first GPU if there is one.

    Raises:
        ValueError: there is no such device, or PyTorch cannot compute on it.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(str(device) if isinstance(device, bool) else device)
        torch.zeros(1, device=found).item()
    except Exception as error:  # each kind of device has its own
        known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        known += ["mps"] if torch.backends.mps.is_available() else []
        raise ValueError(
            f"device={device}: expected {', '.join(known)} or null (a GPU if there is one) on this machine; "
            f"PyTorch {torch.__version__}: {textwrap.shorten(str(error), 200, placeholder=' …')}"
        ) from error
    return found


def fold_batch_norm(network: Network) -> Network:
    """Return a copy in evaluation mode with each batch norm folded into the convolution before it.

    Only neighbours in an `nn.Sequential` are folded, where the convolution has no other consumer.
    """
    folded = deepcopy(network).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
                if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                    transpose = isinstance(conv, nn.ConvTranspose2d)
                    setattr(module, conv_name, fuse_conv_bn_eval(conv, norm, transpose=transpose))
                    setattr(module, norm_name, nn.Identity())
    return folded
