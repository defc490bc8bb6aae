"""Images per second from pictures to poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks.measure import Action, Case
from benchmarks.networks import coco_facts, exported_networks, untrained_network
from benchmarks.poses import compare_poses
from swahr.aggregate import Aggregator
from swahr.build import build_pipeline, network_facts
from swahr.inference import ExportedNetwork, TorchNetwork
from swahr.model import HigherHRNet
from swahr.nodes import instantiate
from swahr.pipeline import Image, PosePipeline
from swahr.predictor import Predictor
from swahr.skeleton import COCO
from swahr.structures import Poses
from swahr.synthetic import SyntheticSource


def end_to_end_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Rendered pictures of two shapes through ``config.model``, untrained, and the native decoder.

    The plain version runs the module in float32, one image at a time; the others run batches of one shape.
    Poses in float32 are compared, except on a GPU, whose convolutions round to TF32. Poses in bfloat16 are
    not.
    """
    network, on_cpu = untrained_network(config, config.model, device), device.type == "cpu"
    images = render_images(config.end_to_end.images, config.end_to_end.size, config.seed)
    batched = native_pipeline(config, network, config.end_to_end.batch_size)
    alone = native_pipeline(config, network, 1)

    def plain() -> list[Poses]:
        with torch.inference_mode():
            return [poses for image in images for poses in alone(network, [image], device)]

    def case(name: str, run: TorchNetwork | ExportedNetwork, pipeline: PosePipeline, *, exact: bool) -> Case:
        predictor = Predictor(network=run, pipeline=pipeline, skeleton=COCO, device=device)
        variants: dict[str, Action] = {"ours": partial(predictor.predict, images), "plain": plain}
        what = f"{name}, {len(images)} pictures, short side {config.end_to_end.size}"
        compare = compare_poses if exact else None
        return Case("end to end", what, 0, variants, compare, work={"images": len(images)})

    for precision in ("fp32", "bf16"):
        run = TorchNetwork(network, device=device, precision=precision)
        yield case(f"PyTorch {precision}, batches", run, batched, exact=precision == "fp32" and on_cpu)
    if on_cpu:
        in_graph = native_pipeline(config, network, config.end_to_end.batch_size, exported=True)
        assert isinstance(batched.aggregate, Aggregator)
        peaks = instantiate(config.native.grouping.peaks)
        with exported_networks(network, batched.aggregate, peaks) as exported:
            for (backend, precision), opened in exported.items():
                yield case(f"{backend} {precision}, batches", opened, in_graph, exact=precision == "fp32")


def render_images(count: int, size: int, seed: int) -> list[Image]:
    """RGB images of rendered crowds, alternately landscape and portrait."""
    shapes = ((size, size * 5 // 4), (size * 5 // 4, size))
    sources = [SyntheticSource(size=count, seed=seed, image_size=shape) for shape in shapes]
    pairs = ((source[i].image for source in sources) for i in range((count + 1) // 2))
    return list(chain.from_iterable(pairs))[:count]


def native_pipeline(
    config: DictConfig, network: HigherHRNet | TorchNetwork, batch_size: int, *, exported: bool = False
) -> PosePipeline:
    """The native decoder behind aggregation at ``config.end_to_end.size``."""
    changes = {"batch_size": batch_size, "aggregate": {"input_size": config.end_to_end.size}}
    node = OmegaConf.merge(config.native, changes)
    assert isinstance(node, DictConfig)
    return build_pipeline(node, coco_facts(config) | network_facts(network), exported=exported)
