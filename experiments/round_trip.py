"""Measures the error of encoding and decoding alone: evaluates the poses decoded from perfect maps.

The people of every image of an annotation file are transformed into the network's input, as in aggregation. A
simulated network predicts exactly their training targets, and tags 0, 2, 4, … Aggregation, peak extraction,
grouping and refinement process its maps, and the protocol evaluates the poses. No image file is read.

There are metrics of two sets of images: ``all``, and ``separated`` ones, in which no labelled keypoints of
the same type of two people coincide. They coincide if the maps may have one peak for both: if they are less
than two pixels of the coarsest map apart, whose pixels may then touch, or within one suppression window on
the finest map, in both x and y. An image with one such pair is excluded. People whom the protocol ignores are
drawn and counted if they have labelled keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from crowds import Crowd, annotated_crowds, input_from_image
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from torch import Tensor

from swahr.build import build_pipeline, skeleton_facts, target_facts
from swahr.build_data import build_evaluation
from swahr.cli.command import fresh_folder, report, run_command
from swahr.data import CocoSource
from swahr.files import write_json
from swahr.geometry import Affine, map_from_input
from swahr.nodes import instantiate
from swahr.provenance import provenance
from swahr.structures import ABSENT, Annotations, Batch, Maps, NetworkOutput, Poses
from swahr.targets import TargetEncoder

_TAG_STEP = 2.0  # twice the default tag threshold


def moved(people: Annotations, target_from_source: Affine) -> Annotations:
    """Return the people in another frame."""
    keypoints = target_from_source.apply(people.keypoints)
    return Annotations(keypoints, people.visibility, people.area * abs(target_from_source.area_ratio))


def separation(people: Annotations) -> float:
    """Return the smallest distance in pixels between labelled keypoints of the same type, or infinity.

    The distance is the larger of those in x and in y, because windows are square.
    """
    offsets = people.keypoints[:, None] - people.keypoints[None]
    labelled = people.visibility > ABSENT
    pairs = labelled[:, None] & labelled[None] & ~np.eye(len(people), dtype=bool)[..., None]
    return float(np.min(np.abs(offsets).max(axis=-1), where=pairs, initial=np.inf))


class PerfectNetwork:
    """Predicts the targets of given people, and perfect tags, for any image.

    Each pixel's tag is that of the person whose keypoint is nearest.

    Args:
        people: the people to predict. Frame: input.
        encode: draws their heatmaps.
    """

    def __init__(self, people: Annotations, encode: TargetEncoder) -> None:
        self.people = people
        self.encode = encode

    def __call__(self, inputs: Tensor) -> NetworkOutput:
        """One `Maps` per stride, coarse to fine; tags come with the first."""
        batch = Batch(
            images=inputs,
            keypoints=torch.from_numpy(self.people.keypoints).float()[None],
            visibility=torch.from_numpy(self.people.visibility)[None],
            valid=torch.ones(1, *inputs.shape[2:], dtype=torch.bool),
            image_ids=(0,),
            input_from_image=(Affine.identity(),),
        )
        coarsest, *finer = (Maps(target.stride, target.fields) for target in self.encode(batch).maps)
        height, width = coarsest.heatmaps.shape[2:]
        tags = self._tags(coarsest.stride, height, width)
        return Maps(coarsest.stride, {**coarsest.fields, "tags": tags[None]}), *finer

    def _tags(self, stride: int, height: int, width: int) -> Tensor:
        people = moved(self.people, map_from_input(stride, self.encode.alignment))
        tags = torch.zeros(people.keypoints.shape[1], height, width)
        if not len(people):
            return tags
        x, y = torch.from_numpy(people.keypoints).float().unbind(-1)
        squared_x = (torch.arange(width) + 0.5 - x[..., None]).square()
        squared_y = (torch.arange(height) + 0.5 - y[..., None]).square()
        unlabelled = torch.from_numpy(people.visibility == ABSENT)[..., None]
        squared_x = squared_x.masked_fill(unlabelled, torch.inf)
        return _TAG_STEP * (squared_x[:, :, None, :] + squared_y[..., None]).argmin(dim=0)


def round_trip(config: DictConfig) -> dict[str, dict[str, float]]:
    """Encode and decode the people of ``config.annotations``; return the metrics of both sets of images.

    Raises:
        ValueError: aggregation has mirror images or several test scales.
    """
    source = CocoSource(config.annotations, images=Path(config.annotations).parent, limit=config.limit)
    encode = instantiate(config.targets, strides=tuple(config.strides))
    pipeline = build_pipeline(config, skeleton_facts(source.skeleton) | target_facts(config.targets))
    if config.aggregate.flip or list(config.aggregate.test_scales) != [1.0]:
        raise ValueError(
            "the perfect network predicts maps of upright images at test scale 1 only: expected "
            f"aggregate.flip=false and test_scales [1.0], got {config.aggregate.flip} and "
            f"{config.aggregate.test_scales}"
        )
    folder = fresh_folder(config.output)
    truth = source.ground_truth()
    crowds = annotated_crowds(truth, source.skeleton)
    poses: dict[int, Poses] = {}
    separated: set[int] = set()
    nearest = max(2 * max(config.strides), (config.grouping.peaks.window // 2 + 1) * min(config.strides))
    for crowd in track(crowds, "encoding and decoding", console=Console(stderr=True)):
        people = moved(crowd.people, input_from_image(crowd.size, pipeline.aggregate))
        blank = np.zeros((*crowd.size, 3), dtype=np.uint8)
        poses[crowd.image_id] = pipeline(PerfectNetwork(people, encode), [blank], torch.device("cpu"))[0]
        if separation(people) >= nearest:
            separated.add(crowd.image_id)
    evaluate = build_evaluation(config.evaluation, truth, source.skeleton)
    result = {
        name: _counts(crowds, poses, chosen) | evaluate({image: poses[image] for image in sorted(chosen)})
        for name, chosen in {"all": set(poses), "separated": separated}.items()
    }
    stamp = provenance(seed=None, files=[config.annotations])
    write_json(folder / "metrics.json", {"metrics": result, "stamp": stamp})
    report(result)
    return result


def _counts(crowds: list[Crowd], poses: Mapping[int, Poses], chosen: set[int]) -> dict[str, float]:
    people = sum(len(crowd.people) for crowd in crowds if crowd.image_id in chosen)
    return {"images": len(chosen), "people": people, "found": sum(len(poses[image]) for image in chosen)}


if __name__ == "__main__":
    run_command("round_trip", round_trip)
