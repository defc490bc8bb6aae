"""What a network costs at test time: every way of running it, beside the plain module in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from swahr.aggregate import Aggregator
from swahr.benchmark.measure import Action, Case
from swahr.benchmark.networks import can_compile, exported_networks, untrained_network
from swahr.grouping import PeakExtractor
from swahr.inference import TorchNetwork
from swahr.model import HigherHRNet
from swahr.skeleton import COCO
from swahr.structures import DenseMaps

_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}  # of the largest value
_TOLERANCE_OF_TF32 = 1e-2  # to which a GPU's convolutions round float32


def forward_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """One image through ``config.forward.model``, strides merged; exported networks also find the peaks.

    Compilers and backends that are not installed are left out, and all exported networks on a GPU. Of other
    sizes and batches, ``config.forward.others``, the plain network and bfloat16 in PyTorch are timed.
    """
    network = untrained_network(config, config.forward.model, device)
    aggregate = Aggregator(COCO.flip_permutation, flip=False)
    images = _noise(1, config.forward.size, device)
    case = partial(_case, aggregate, network)
    ways: list[tuple[str, dict[str, Any]]] = [
        (f"PyTorch {precision}{way}", {"precision": precision, "channels_last": not way})
        for precision in ("fp32", "bf16")
        for way in ("", ", channels first")
    ]
    if config.forward.compile and can_compile():
        ways += [
            (f"PyTorch {precision}, compiled", {"precision": precision, "compile": True})
            for precision in config.forward.compile
        ]
    for name, way in ways:
        prepared = TorchNetwork(network, device=device, **way)
        yield case(images, name, way["precision"], partial(aggregate.look, prepared, images))
    if device.type == "cpu":
        with exported_networks(network, aggregate, PeakExtractor()) as exported:
            for (backend, precision), run in exported.items():
                yield case(images, f"{backend} {precision}", precision, partial(run, images))
    prepared = TorchNetwork(network, device=device, precision="bf16")
    for count, side in config.forward.others:
        images = _noise(count, side, device)
        yield case(images, "PyTorch bf16", "bf16", partial(aggregate.look, prepared, images))


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


def _plain(aggregate: Aggregator, network: HigherHRNet, images: Tensor) -> DenseMaps:
    with torch.inference_mode():
        return aggregate.look(network, images)


def _compare(ours: DenseMaps | dict[str, Tensor], plain: DenseMaps, *, tolerance: float) -> None:
    for name in ("heatmaps", "tags", "scales"):
        found = ours.get(name) if isinstance(ours, dict) else getattr(ours, name)
        expected = getattr(plain, name)
        if expected is not None:
            atol = tolerance * float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=0, atol=atol)
