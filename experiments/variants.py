"""Variants of drawing, merging and decoding maps, compared on the same people with the same noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from crowds import Crowd, annotated_crowds, input_from_image
from noise import Background, NoiseModel, NoisyNetwork, Scene, draw_scene

from swahr.aggregate import Aggregator
from swahr.build import skeleton_facts
from swahr.data import CocoSource
from swahr.decode import Decoder, KeypointRecovery
from swahr.geometry import Alignment
from swahr.nodes import instantiate
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, DenseMaps, Groups, Peaks, Poses
from swahr.targets.pixels import Centre

Group = Callable[[Peaks], list[Groups]]

_SIGMA = 2.0  # of the target Gaussians
_INPUT_SIZE = 512
_MATCH = 0.5  # OKS from which a pose matches a person


@dataclass(frozen=True)
class Nodes:
    """Configuration nodes (see `swahr.nodes`) by the names that variants use.

    Attributes:
        refine: sub-pixel methods.
        grouping: ``peaks`` and ``rule``, as in ``conf/grouping``.
    """

    refine: Mapping[str, Any]
    grouping: Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """One variant of drawing and decoding; the fields are settings of the package's components.

    Attributes:
        flip_tags: use the mirror image's tags as a second dimension.
        refine: a name in `Nodes.refine`.
        recover: fill in missing keypoints above this heat; None leaves them missing.
        grouping: a name in `Nodes.grouping`.
        every: decode only every n-th image.
        against: the variant whose AP on the same images is subtracted.
    """

    name: str
    question: str
    text: str
    centre: Centre
    alignment: Alignment
    strides: tuple[int, ...]
    project: bool
    flip: bool
    flip_tags: bool
    refine: str
    recover: float | None
    grouping: str
    every: int
    against: str

    @property
    def maps(self) -> tuple[Any, ...]:
        """The settings that determine the dense maps."""
        return self.predicted, self.project, self.flip

    @property
    def predicted(self) -> tuple[Any, ...]:
        """The settings that determine the network's maps."""
        return self.centre, self.alignment, self.strides


@dataclass(frozen=True, eq=False)
class Outcome:
    """The poses of a variant in one image, compared with the people.

    ``offsets (n 3)``: for every labelled keypoint that was found, the person's area in image pixels, and the
    decoded minus the drawn position in input pixels, x and y. ``filled``: the numbers of keypoints that
    recovery added to the best poses of people at the correct position, at a wrong position and without a
    label, and the number that it added to other poses.
    """

    poses: Poses
    offsets: npt.NDArray[np.float32]
    filled: tuple[int, int, int, int]


class Study:
    """All variants on the images of one annotation file.

    Args:
        annotations: COCO format.
        variants: the variants to compare.
        nodes: the components that variants choose from.
        noise: errors of the maps.
        seed: of all random numbers.
        limit: use only this many images, the first ones; None for all.
    """

    def __init__(
        self,
        annotations: str,
        variants: Sequence[Variant],
        nodes: Nodes,
        noise: NoiseModel,
        seed: int,
        limit: int | None,
    ) -> None:
        source = CocoSource(annotations, images=Path(annotations).parent, limit=limit)
        self.truth = source.ground_truth()
        self.skeleton: Skeleton = source.skeleton
        self.crowds = annotated_crowds(self.truth, source.skeleton)
        self.variants = tuple(variants)
        facts = skeleton_facts(source.skeleton) | {"sigma": _SIGMA}
        self.refine = {name: instantiate(node, **facts) for name, node in nodes.refine.items()}
        self.grouping: dict[str, tuple[Callable[[DenseMaps], Peaks], Group]] = {
            name: (instantiate(node["peaks"], **facts), instantiate(node["rule"], **facts))
            for name, node in nodes.grouping.items()
        }
        self.noise = noise
        self.seed = seed
        aggregate = Aggregator(self.skeleton.flip_permutation, input_size=_INPUT_SIZE)
        sizes = [aggregate.input_sizes(crowd.size)[1.0] for crowd in self.crowds]
        largest = tuple(max(size[axis] for size in sizes) // 2 for axis in (0, 1))
        rng = np.random.default_rng(seed)
        self.background = Background(self.skeleton.num_keypoints, largest, noise.background, rng)

    def __call__(self, index: int) -> dict[str, Outcome]:
        """The outcome of each variant that is due for the image."""
        crowd = self.crowds[index]
        rng = np.random.default_rng((self.seed, crowd.image_id))
        scene = draw_scene(crowd, self.noise, self.skeleton, rng)
        marked = np.zeros((*crowd.size, 3), dtype=np.uint8)
        marked[:, crowd.size[1] // 2 :] = 255
        networks: dict[tuple[Any, ...], NoisyNetwork] = {}
        outcomes: dict[str, Outcome] = {}
        due: defaultdict[tuple[Any, ...], list[Variant]] = defaultdict(list)
        for variant in self.variants:
            if index % variant.every == 0:
                due[variant.maps].append(variant)
        for variants in due.values():
            first = variants[0]
            aggregate = self._aggregator(first)
            if first.predicted not in networks:
                networks[first.predicted] = self._network(first, aggregate, crowd, scene)
            maps = aggregate(networks[first.predicted], [marked], torch.device("cpu"))
            outcomes |= self._decode(variants, maps, crowd, scene)
        return outcomes

    def _aggregator(self, variant: Variant) -> Aggregator:
        return Aggregator(
            self.skeleton.flip_permutation,
            input_size=_INPUT_SIZE,
            flip=variant.flip,
            project=variant.project,
            alignment=variant.alignment,
        )

    def _network(self, variant: Variant, aggregate: Aggregator, crowd: Crowd, scene: Scene) -> NoisyNetwork:
        return NoisyNetwork(
            scene,
            input_from_image=input_from_image(crowd.size, aggregate),
            flip_permutation=self.skeleton.flip_permutation,
            strides=variant.strides,
            centre=variant.centre,
            alignment=variant.alignment,
            sigma=_SIGMA,
            background=self.background,
            seed=crowd.image_id,
        )

    def _decode(
        self, variants: Sequence[Variant], maps: DenseMaps, crowd: Crowd, scene: Scene
    ) -> dict[str, Outcome]:
        """Return the outcomes on the same maps; peaks and groups are shared between variants."""
        grouped: dict[tuple[str, bool], tuple[Peaks, Groups]] = {}
        straight = replace(maps, fields={**maps.fields, "tags": maps.fields["tags"][..., :1]})
        outcomes = {}
        for variant in variants:
            seen = maps if variant.flip_tags else straight
            key = variant.grouping, variant.flip_tags
            if key not in grouped:
                extract_peaks, group = self.grouping[variant.grouping]
                peaks = extract_peaks(seen)
                grouped[key] = peaks, group(peaks)[0]
            peaks, groups = grouped[key]
            decode = Decoder(
                self.skeleton,
                extract_peaks=partial(_given, peaks),
                group=partial(_given, [groups]),
                refine=self.refine[variant.refine],
                recover=None if variant.recover is None else KeypointRecovery(variant.recover),
            )
            (poses,) = decode(seen)
            factor = maps.map_from_image[0].length_ratio * (1 if variant.project else variant.strides[-1])
            outcomes[variant.name] = compare(poses, groups, crowd, scene, factor, self.skeleton)
        return outcomes


def _given(value: Any, _: object) -> Any:
    """Return the given value for any maps or peaks."""
    return value


def compare(
    poses: Poses, groups: Groups, crowd: Crowd, scene: Scene, input_factor: float, skeleton: Skeleton
) -> Outcome:
    """Compare poses with the annotated people; ``groups`` are the poses before recovery."""
    people = crowd.people
    if not len(people) or not len(poses):
        return Outcome(poses, np.zeros((0, 3), np.float32), (0, 0, 0, 0))
    labelled = people.visibility > ABSENT
    similarity = keypoint_similarity(poses, crowd, skeleton)  # (people, poses, keypoints)
    oks = (similarity * labelled[:, None]).sum(axis=2) / labelled.sum(axis=1)[:, None]
    best, matched = oks.argmax(axis=1), oks.max(axis=1) >= _MATCH
    found = labelled & poses.present[best] & matched[:, None]
    offsets = input_factor * (poses.keypoints[best] - scene.shown)[found]
    areas = np.broadcast_to(people.area[:, None], found.shape)[found]
    recovered = poses.present & ~groups.present
    filled = recovered[best] & matched[:, None]
    right = filled & labelled & (similarity[np.arange(len(people)), best] >= _MATCH)
    nobodys = np.setdiff1d(np.arange(len(poses)), best[matched])
    return Outcome(
        poses=poses,
        offsets=np.column_stack([areas, offsets]).astype(np.float32),
        filled=(
            int(right.sum()),
            int((filled & labelled & ~right).sum()),
            int((filled & ~labelled).sum()),
            int(recovered[nobodys].sum()),
        ),
    )


def keypoint_similarity(poses: Poses, crowd: Crowd, skeleton: Skeleton) -> npt.NDArray[np.float64]:
    """The summands of OKS, exp(-d^2 / (8 area sigma^2)), of every person and pose; 0 where missing."""
    offset = poses.keypoints[None] - crowd.people.keypoints[:, None]
    spread = 8 * crowd.people.area[:, None, None] * np.array(skeleton.sigmas) ** 2
    return np.where(poses.present, np.exp(-np.square(offset).sum(axis=3) / np.maximum(spread, 1e-9)), 0.0)
