"""What encoding and decoding cost by themselves: a perfect network's maps, decoded and scored.

For every image of an annotation file the people are moved into the network's input, as aggregation does, and
a network is played that answers with exactly the targets it would be taught, and with tags 0, 2, 4, … of the
people. Its maps go the usual way: aggregation, peaks, grouping, refinement, back to the image, the protocol.
No image file is read.

Two sets of figures: ``all`` images, and the ``separated`` ones, where no two people's same labelled keypoints
coincide, that is, lie so near that the maps may have one peak for both: less than two pixels of the coarsest
map apart, whose pixels may then touch, or within one suppression window on the finest map, in both x and y.
An image with one such pair is left out as a whole. People whom the protocol ignores, but who have labelled
keypoints, are drawn and count for this.
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

from swahr.build import build_evaluation, build_pipeline
from swahr.cli.command import fresh_folder, report, run_command, write_json
from swahr.data import CocoSource
from swahr.geometry import Affine, map_from_input
from swahr.nodes import create
from swahr.stamp import make_stamp
from swahr.structures import ABSENT, Annotations, Batch, Maps, NetworkOutput, Poses
from swahr.target import TargetEncoder

_TAG_STEP = 2.0  # twice the default tag threshold


def moved(people: Annotations, target_from_source: Affine) -> Annotations:
    """The same people in another frame."""
    keypoints = target_from_source.apply(people.keypoints)
    return Annotations(keypoints, people.visibility, people.area * abs(target_from_source.area_ratio))


def separation(people: Annotations) -> float:
    """How near same labelled keypoints of two people come, in pixels of their frame; infinite without any.

    The distance is the larger of those in x and in y, because windows are square.
    """
    offsets = people.keypoints[:, None] - people.keypoints[None]
    labelled = people.visibility > ABSENT
    pairs = labelled[:, None] & labelled[None] & ~np.eye(len(people), dtype=bool)[..., None]
    return float(np.min(np.abs(offsets).max(axis=-1), where=pairs, initial=np.inf))


class PerfectNetwork:
    """Answers an input with the targets of its people, and with perfect tags, whatever the pixels are.

    Each pixel's tag is that of the person whose keypoint is nearest.

    Args:
        people: of the input, in its frame.
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
        coarsest, *finer = (
            Maps(target.heatmaps, None, None, None, target.stride) for target in self.encode(batch).maps
        )
        height, width = coarsest.heatmaps.shape[2:]
        tags = self._tags(coarsest.stride, height, width)
        return Maps(coarsest.heatmaps, tags[None], None, None, coarsest.stride), *finer

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
    """Encode and decode the people of ``config.annotations``; the result is the figures of both sets.

    Raises:
        ValueError: aggregation is to look at mirror images or at several test scales.
    """
    source = CocoSource(config.annotations, images=Path(config.annotations).parent, limit=config.limit)
    pipeline = build_pipeline(config, source.skeleton)
    if config.aggregate.flip or list(config.aggregate.test_scales) != [1.0]:
        raise ValueError(
            "the perfect network answers upright images at test scale 1 only: expected aggregate.flip=false "
            f"and test_scales [1.0], got {config.aggregate.flip} and {config.aggregate.test_scales}"
        )
    folder = fresh_folder(config.output)
    truth = source.ground_truth()
    crowds = annotated_crowds(truth, source.skeleton)
    poses: dict[int, Poses] = {}
    separated: set[int] = set()
    encode = create(config.target, strides=tuple(config.strides))
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
    stamp = make_stamp(seed=None, files=[config.annotations])
    write_json(folder / "metrics.json", {"figures": result, "stamp": stamp})
    report(result)
    return result


def _counts(crowds: list[Crowd], poses: Mapping[int, Poses], chosen: set[int]) -> dict[str, float]:
    people = sum(len(crowd.people) for crowd in crowds if crowd.image_id in chosen)
    return {"images": len(chosen), "people": people, "found": sum(len(poses[image]) for image in chosen)}


if __name__ == "__main__":
    run_command("round_trip", round_trip)
