"""Scoring: the default backend beside the official tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from benchmarks.crowd import crowd_keypoints
from benchmarks.measure import Case
from swahr.coco_json import AREA_OF_BOX, bounding_box, dataset, image_entry, person_entry
from swahr.evaluation import Evaluator, results_from_poses
from swahr.evaluation.evaluator import ProtocolName
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import ABSENT, VISIBLE, Poses

_SIZE = (512, 768)
_CROWDING = {"AP_easy": (0.0, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, 1.1)}
Metrics = dict[str, float]


def evaluation_cases(config: DictConfig, _: Sequence[int], __: torch.device) -> Iterator[Case]:
    """Synthetic results of synthetic people, by both protocols.

    CrowdPose's own tool is seldom installed. In its place pycocotools scores the people with CrowdPose's
    areas, once for all images and once for each level of crowding.
    """
    count, people = config.evaluation_images, config.evaluation_people
    protocols: tuple[tuple[ProtocolName, Skeleton, Callable[..., Metrics]], ...] = (
        ("coco", COCO, Evaluator("coco", "pycocotools")),
        ("crowdpose", CROWDPOSE, _crowdpose_by_pycocotools),
    )
    for protocol, skeleton, plain in protocols:
        truth, poses = _crowds(count, people, skeleton, config.seed)
        data = truth, results_from_poses(poses), skeleton
        variants = {"ours": partial(Evaluator(protocol), *data), "plain": partial(plain, *data)}
        name = f"{protocol}, {count} images"
        yield Case("evaluation", name, people, variants, _compare, work={"images": count})


def _compare(ours: Metrics, plain: Metrics) -> None:
    assert ours.keys() == plain.keys(), f"{sorted(ours)} and {sorted(plain)}"
    names = list(ours)
    np.testing.assert_allclose([ours[n] for n in names], [plain[n] for n in names], rtol=0, atol=1e-6)


def _crowdpose_by_pycocotools(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton
) -> Metrics:
    people = [
        {**person, "area": AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]}
        for person in truth["annotations"]
    ]

    def score(lowest: float, limit: float) -> Metrics:
        images = [image for image in truth["images"] if lowest <= image["crowdIndex"] < limit]
        known = {image["id"] for image in images}
        part = {**truth, "images": images, "annotations": [p for p in people if p["image_id"] in known]}
        return Evaluator("coco", "pycocotools")(
            part, [r for r in results if r["image_id"] in known], skeleton
        )

    metrics = {name: value for name, value in score(0, 2).items() if name[2:] not in ("M", "L")}
    return metrics | {name: round(score(*bounds)["AP"], 4) for name, bounds in _CROWDING.items()}


def _crowds(
    count: int, people: int, skeleton: Skeleton, seed: int
) -> tuple[dict[str, Any], dict[int, Poses]]:
    """Ground truth, and poses with small and large errors; some people are missed."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    poses: dict[int, Poses] = {}
    for image in range(1, count + 1):
        at = crowd_keypoints(people, skeleton.num_keypoints, _SIZE, generator).numpy().astype(np.float64)
        annotations += [_annotation(person, image, rng) for person in at]
        poses[image] = _found(at, skeleton, rng)
    images = [
        image_entry(i, f"{i}.jpg", _SIZE) | {"crowdIndex": float(rng.random())} for i in range(1, count + 1)
    ]
    return dataset(images, annotations, skeleton.to_category()), poses


def _annotation(person: np.ndarray, image: int, rng: np.random.Generator) -> dict[str, Any]:
    visibility = np.where(rng.random(len(person)) < 0.8, VISIBLE, ABSENT)
    box = bounding_box(person)
    return person_entry(image, person, visibility, box=box, area=0.6 * box[2] * box[3])


def _found(people: np.ndarray, skeleton: Skeleton, rng: np.random.Generator) -> Poses:
    kept = people[rng.random(len(people)) < 0.9]
    error = rng.choice([2.0, 8.0, 40.0], size=(len(kept), 1, 1)) * rng.standard_normal(kept.shape)
    scores = rng.random((len(kept), skeleton.num_keypoints))
    return Poses(
        keypoints=kept + error,
        scores=scores,
        score=scores.mean(axis=1),
        present=np.ones(scores.shape, dtype=bool),
        skeleton=skeleton,
    )
