"""Compares results of the GPU with those of the CPU, stage by stage, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from benchmarks.decoding import decoded_maps
from benchmarks.end_to_end import native_pipeline, render_images
from benchmarks.networks import coco_facts, untrained_network
from benchmarks.poses import compare_poses
from benchmarks.training import (
    STRIDES,
    Losses,
    compare_losses,
    random_maps,
    total_loss,
    training_batch,
    with_gradients,
)
from omegaconf import DictConfig

from gpu_suite.agreement import Differences
from gpu_suite.checks import Check, perform
from swahr.build import build_pipeline
from swahr.decode import Decoder, QuarterOffset
from swahr.inference import TorchNetwork
from swahr.loss import Criterion
from swahr.nodes import instantiate
from swahr.structures import DenseMaps, Groups, Peaks

_CPU = torch.device("cpu")
_ROUNDING = 1e-6  # of exponential functions in float32
_SUBPIXEL = 2e-3  # pixels of the map, of DARK's fit in float32
_NETWORK = 1e-4  # of the largest value, after all layers in float32

Measurements = Mapping[str, float]


def compare_devices(config: DictConfig, device: torch.device) -> Iterator[Check]:
    """A check for each stage. Convolutions and matrices are computed in float32, without TF32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    for name, compare in _comparisons(config, device):
        yield perform(name, compare)


def _comparisons(
    config: DictConfig, device: torch.device
) -> Iterator[tuple[str, Callable[[], Measurements]]]:
    for name, node in config.equality.targets.items():
        yield f"targets, {name}", partial(_targets, config, node, device)
    for name, node in config.equality.losses.items():
        yield f"losses and gradients, {name}", partial(_losses, config, node, device)
    for name in ("official", "native"):
        yield f"peaks, {name}", partial(_peaks, config, name, device)
        yield f"grouping, {name}", partial(_grouping, config, name, device)
        yield f"refinement, {name}", partial(_refinement, config, name, device)
        yield f"recovery, {name}", partial(_recovery, config, name, device)
        yield f"decoding, {name}", partial(_decoding, config, name, device)
    yield "maps of a network", partial(_maps, config, device)
    yield "poses of a network", partial(_poses, config, device)


def _targets(config: DictConfig, node: DictConfig, device: torch.device) -> Measurements:
    """Masks and tag indices are exact; so are heatmaps, unless Gaussians are centred on keypoints."""
    encode = instantiate(node, strides=STRIDES)
    batch = training_batch(config, config.equality.people, images=config.equality.images, device=_CPU)
    expected, found = encode(batch), encode(batch.to(device))
    differences = Differences()
    for ours, wanted in zip(found.maps, expected.maps, strict=True):
        tolerance = 0.0 if node.centre == "truncated" else _ROUNDING
        differences.add(f"heatmaps, stride {wanted.stride}", ours.heatmaps, wanted.heatmaps, tolerance)
        differences.add(f"mask, stride {wanted.stride}", ours.valid, wanted.valid)
    differences.add("tag indices", found.tag_index, expected.tag_index)
    return differences.checked()


def _losses(config: DictConfig, node: DictConfig, device: torch.device) -> Measurements:
    """Terms and gradients agree up to rounding in float32."""
    criterion: Criterion = instantiate(node)

    def evaluate(on: torch.device) -> Losses:
        output, targets = random_maps(
            config, criterion.needs, config.equality.people, images=config.equality.images, device=on
        )
        loss, gradients = with_gradients(output, lambda maps: total_loss(criterion(maps, targets)))
        return loss.cpu(), [gradient.cpu() for gradient in gradients]

    expected, found = evaluate(_CPU), evaluate(device)
    compare_losses(found, expected)
    gradients = max(
        float((ours - wanted).abs().max() / wanted.abs().max())
        for ours, wanted in zip(found[1], expected[1], strict=True)
    )
    return {"loss": float((found[0] / expected[0] - 1).abs()), "gradients, of the largest": gradients}


def _setting(config: DictConfig, name: str, device: torch.device) -> tuple[Decoder, DenseMaps, DenseMaps]:
    """A decoder, and the maps of one crowd on the CPU and on the device."""
    decoder = build_pipeline(config[name], coco_facts(config)).decode
    on_cpu, on_device = (decoded_maps(config, name, config.equality.people, each) for each in (_CPU, device))
    return decoder, on_cpu, on_device


def _peaks(config: DictConfig, name: str, device: torch.device) -> Measurements:
    """Exact, up to the order of equal peaks."""
    decoder, on_cpu, on_device = _setting(config, name, device)
    expected, found = (_sorted_peaks(decoder.extract_peaks(maps)) for maps in (on_cpu, on_device))
    differences = Differences()
    for field in ("scores", "positions", "tags"):
        differences.add(field, getattr(found, field), getattr(expected, field))
    return differences.checked() | {"peaks": int((expected.scores > 0).sum())}


def _sorted_peaks(peaks: Peaks) -> Peaks:
    """On the CPU, in the order of their scores and of their positions in reading order."""
    scores, positions, tags = (part.cpu() for part in (peaks.scores, peaks.positions, peaks.tags))
    keys = (positions[..., 0].numpy(), positions[..., 1].numpy(), -scores.numpy())
    order = torch.from_numpy(np.lexsort(keys, axis=-1))
    return Peaks(
        positions=positions.take_along_dim(order[..., None], dim=-2),
        scores=scores.take_along_dim(order, dim=-1),
        tags=tags.take_along_dim(order[..., None], dim=-2),
    )


def _grouping(config: DictConfig, name: str, device: torch.device) -> Measurements:
    """Exact, for the same peaks."""
    decoder, on_cpu, _ = _setting(config, name, device)
    peaks = decoder.extract_peaks(on_cpu)
    moved = Peaks(peaks.positions.to(device), peaks.scores.to(device), peaks.tags.to(device))
    return _compare_groups(decoder.group(moved)[0], decoder.group(peaks)[0], 0.0)


def _refinement(config: DictConfig, name: str, device: torch.device) -> Measurements:
    """Quarter offsets are exact, DARK agrees up to the rounding of its fit."""
    decoder, on_cpu, on_device = _setting(config, name, device)
    (groups,) = decoder.group(decoder.extract_peaks(on_cpu))
    expected, found = (decoder.refine(groups, maps.of_image(0)) for maps in (on_cpu, on_device))
    return _compare_groups(found, expected, 0.0 if isinstance(decoder.refine, QuarterOffset) else _SUBPIXEL)


def _recovery(config: DictConfig, name: str, device: torch.device) -> Measurements:
    """Exact, for the same groups."""
    decoder, on_cpu, on_device = _setting(config, name, device)
    (groups,) = decoder.group(decoder.extract_peaks(on_cpu))
    assert decoder.recover is not None
    expected, found = (decoder.recover(groups, maps.of_image(0)) for maps in (on_cpu, on_device))
    missing = int((~groups.present).sum())
    return _compare_groups(found, expected, 0.0) | {"missing keypoints": missing}


def _compare_groups(found: Groups, expected: Groups, tolerance: float) -> dict[str, float]:
    differences = Differences()
    differences.add("present", found.present, expected.present)
    differences.add("scores", found.scores, expected.scores)
    differences.add("positions", found.positions, expected.positions, tolerance)
    return differences.checked() | {"people": len(expected)}


def _decoding(config: DictConfig, name: str, device: torch.device) -> Measurements:
    """All steps, each on the results of the previous steps on the same device."""
    decoder, on_cpu, on_device = _setting(config, name, device)
    (expected,), (found,) = decoder(on_cpu), decoder(on_device)
    differences = Differences()
    differences.add("present", found.present, expected.present)
    differences.add("scores", found.scores, expected.scores, _ROUNDING)
    for field in ("keypoints", "score"):
        values = (np.nan_to_num(getattr(poses, field)) for poses in (found, expected))
        differences.add(field, *values, _SUBPIXEL if field == "keypoints" else _ROUNDING)
    return differences.checked() | {"people": len(expected)}


def _networks(config: DictConfig, device: torch.device) -> Sequence[TorchNetwork]:
    network = untrained_network(config, config.model, _CPU)
    return [TorchNetwork(network, device=each) for each in (_CPU, device)]


def _maps(config: DictConfig, device: torch.device) -> Measurements:
    """A network's maps in float32."""
    batch = training_batch(config, 1, images=config.equality.images, device=_CPU)
    expected, found = (network(batch.images.to(network.device)) for network in _networks(config, device))
    differences = Differences()
    for ours, wanted in zip(found, expected, strict=True):
        for name, values in wanted.fields.items():
            tolerance = _NETWORK * float(values.abs().max())
            differences.add(f"{name}, stride {wanted.stride}", ours.fields[name], values, tolerance)
    return differences.checked()


def _poses(config: DictConfig, device: torch.device) -> Measurements:
    """From images to poses in float32."""
    images = render_images(config.end_to_end.images, config.end_to_end.size, config.seed)
    networks = _networks(config, device)
    pipeline = native_pipeline(config, networks[0], config.end_to_end.batch_size)
    expected, found = (pipeline(network, images, network.device) for network in networks)
    return compare_poses(found, expected)
