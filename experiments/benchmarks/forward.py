"""The network at test time in every backend and precision, beside the plain module in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Action, Case
from benchmarks.networks import can_compile, exported_networks, untrained_network
from swahr.aggregate import Aggregator
from swahr.grouping import PeakExtractor
from swahr.inference import TorchNetwork
from swahr.model import HigherHRNet
from swahr.skeleton import COCO

_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}  # of the largest value
_TOLERANCE_OF_TF32 = 1e-2  # convolutions of a GPU round float32 to TF32


def forward_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """A batch through ``config.forward.model``, strides merged; exported networks also find the peaks.

    Backends that are not installed are left out, and so are exported networks on a GPU. For the sizes and
    batches of ``config.forward.others``, bfloat16 in PyTorch is timed beside the plain network.
    """
    network = untrained_network(config, config.forward.model, device)
    aggregate = Aggregator(COCO.flip_permutation, flip=False)
    images = _noise(config.forward.images, config.forward.size, device)
    case = partial(_case, aggregate, network)
    for name, options in _pytorch_options(config).items():
        prepared = TorchNetwork(network, device=device, **options)
        yield case(
            images,
            f"PyTorch {name}",
            options["precision"],
            partial(aggregate.forward_test_scale, prepared, images),
        )
    if config.forward.exported and device.type == "cpu":
        with exported_networks(network, aggregate, PeakExtractor()) as exported:
            for (backend, precision), run in exported.items():
                yield case(images, f"{backend} {precision}", precision, partial(run, images))
    prepared = TorchNetwork(network, device=device, precision="bf16")
    for count, side in config.forward.others:
        images = _noise(count, side, device)
        yield case(images, "PyTorch bf16", "bf16", partial(aggregate.forward_test_scale, prepared, images))


def _pytorch_options(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Arguments of `TorchNetwork` by name."""
    options: dict[str, dict[str, Any]] = {}
    for precision in config.forward.eager:
        options[precision] = {"precision": precision}
        options[f"{precision}, channels first"] = {"precision": precision, "channels_last": False}
    if config.forward.compile and can_compile():
        for precision in config.forward.compile:
            options[f"{precision}, compiled"] = {"precision": precision, "compile": True}
    return options


def _noise(count: int, side: int, device: torch.device) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=device)


def _case(
    aggregate: Aggregator, network: HigherHRNet, images: Tensor, name: str, precision: str, ours: Action
) -> Case:
    plain = partial(_plain, aggregate, network, images)
    with FlopCounterMode(display=False) as counter:
        plain()
    count, _, h, w = images.shape
    rounded = images.is_cuda and precision == "fp32"
    return Case(
        section="forward",
        name=f"{name}, {count} of {h}x{w}",
        people=0,
        variants={"ours": ours, "plain": plain},
        compare=partial(_compare, tolerance=_TOLERANCE_OF_TF32 if rounded else _TOLERANCE[precision]),
        work={"images": count, "GFLOP": counter.get_total_flops() / 1e9},
    )


def _plain(aggregate: Aggregator, network: HigherHRNet, images: Tensor) -> Mapping[str, Tensor]:
    with torch.inference_mode():
        return aggregate.forward_test_scale(network, images)


def _compare(ours: Mapping[str, Tensor], plain: Mapping[str, Tensor], *, tolerance: float) -> None:
    for name, expected in plain.items():
        atol = tolerance * float(expected.abs().max())
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=atol)
