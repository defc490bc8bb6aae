"""Ways of teaching, merging and decoding maps, tried on the same disturbed maps of the same people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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
from swahr.aggregate.frames import frame_sizes
from swahr.data import CocoSource
from swahr.decode import Decoder, KeypointRecovery, SubpixelRefiner
from swahr.decode.subpixel import Method, Rescale
from swahr.geometry import Alignment
from swahr.grouping import AssociativeEmbedding, PeakExtractor
from swahr.grouping.associative_embedding import Rule, Solver
from swahr.skeleton import Skeleton
from swahr.structures import ABSENT, DenseMaps, Groups, Peaks, Poses
from swahr.target.pixels import Centre

_SIGMA = 2.0  # of the taught Gaussians
_INPUT_SIZE = 512
_SIZE_MULTIPLE = 64
_MATCH = 0.5  # OKS from which a pose counts as a person's


@dataclass(frozen=True)
class Variant:
    """One way to go from people to poses; the fields are settings of the package's components.

    Attributes:
        flip_tags: use the mirror image's tags, too, as a second dimension.
        recover: fill in missing keypoints above this heat; None leaves them missing.
        every: only each so many-th image is decoded this way.
        against: the variant whose AP is subtracted, over the same images.
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
    refine: Method
    rescale: Rescale
    recover: float | None
    grouping: Rule
    every: int
    against: str

    @property
    def maps(self) -> tuple[Any, ...]:
        """What the dense maps depend on."""
        return self.taught, self.project, self.flip

    @property
    def taught(self) -> tuple[Any, ...]:
        """What the network's answers depend on."""
        return self.centre, self.alignment, self.strides


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a variant makes of an image.

    ``offsets (n 3)``: for every labelled keypoint found of a person found, the person's area in image pixels
    and the decoded less the shown position in input pixels, x and y. ``filled``: keypoints that recovery
    added to the best pose of a person, at the right place, elsewhere, and where none is labelled; and those
    it added to other poses.
    """

    poses: Poses
    offsets: npt.NDArray[np.float32]
    filled: tuple[int, int, int, int]


class Study:
    """All variants on the images of one annotation file.

    Args:
        annotations: COCO format.
        variants: what is tried.
        noise: how wrong the maps are.
        seed: of everything random.
        limit: the first so many images only.
    """

    def __init__(
        self, annotations: str, variants: Sequence[Variant], noise: NoiseModel, seed: int, limit: int | None
    ) -> None:
        source = CocoSource(annotations, images=Path(annotations).parent, limit=limit)
        self.truth = source.ground_truth()
        self.skeleton: Skeleton = source.skeleton
        self.crowds = annotated_crowds(self.truth, source.skeleton)
        self.variants = tuple(variants)
        self.noise = noise
        self.seed = seed
        sizes = [frame_sizes(crowd.size, _INPUT_SIZE, (1.0,), _SIZE_MULTIPLE)[1.0] for crowd in self.crowds]
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
            if first.taught not in networks:
                networks[first.taught] = self._network(first, aggregate, crowd, scene)
            maps = aggregate(networks[first.taught], [marked], torch.device("cpu"))
            outcomes |= self._decode(variants, maps, crowd, scene)
        return outcomes

    def _aggregator(self, variant: Variant) -> Aggregator:
        return Aggregator(
            self.skeleton.flip_permutation,
            input_size=_INPUT_SIZE,
            flip=variant.flip,
            project=variant.project,
            alignment=variant.alignment,
            size_multiple=_SIZE_MULTIPLE,
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
        """Peaks and groups are found once for each rule and kind of tags."""
        grouped: dict[tuple[Rule, bool], tuple[Peaks, Groups]] = {}
        straight = replace(maps, tags=maps.tags[..., :1])
        outcomes = {}
        for variant in variants:
            seen = maps if variant.flip_tags else straight
            key = variant.grouping, variant.flip_tags
            if key not in grouped:
                grouped[key] = self._group(variant.grouping, seen)
            peaks, groups = grouped[key]
            decode = Decoder(
                self.skeleton,
                extract_peaks=partial(_given, peaks),
                group=partial(_given, [groups]),
                refine=SubpixelRefiner(variant.refine, sigma=_SIGMA, rescale=variant.rescale),
                recover=KeypointRecovery(variant.recover is not None, variant.recover or 0.0),
            )
            (poses,) = decode(seen)
            factor = maps.map_from_image[0].length_ratio * (1 if variant.project else variant.strides[-1])
            outcomes[variant.name] = compare(poses, groups, crowd, scene, factor, self.skeleton)
        return outcomes

    def _group(self, rule: Rule, maps: DenseMaps) -> tuple[Peaks, Groups]:
        peaks = PeakExtractor(plateaus="all" if rule == "official" else "one")(maps)
        return peaks, grouping(rule, self.skeleton)(peaks)[0]


def grouping(rule: Rule, skeleton: Skeleton) -> AssociativeEmbedding:
    """As ``conf/grouping`` has it."""
    solver: Solver = "munkres" if rule == "official" else "scipy"
    return AssociativeEmbedding(skeleton.grouping_indices, rule=rule, solver=solver)


def _given(value: Any, _: object) -> Any:
    """What was found before, whatever is asked."""
    return value


def compare(
    poses: Poses, groups: Groups, crowd: Crowd, scene: Scene, input_factor: float, skeleton: Skeleton
) -> Outcome:
    """Measure poses, found as ``groups`` before recovery, against who is there."""
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
