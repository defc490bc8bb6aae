"""What scoring costs: the default backend beside the official tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from swahr.benchmark.crowd import crowd_keypoints
from swahr.benchmark.measure import Case
from swahr.evaluation import Evaluator, results_from_poses
from swahr.evaluation.evaluator import ProtocolName
from swahr.geometry import INDEX_FROM_POINT
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import Poses

_SIZE = (512, 768)
_CROWDPOSE_AREA = 0.53  # of the box
_CROWDING = {"AP_easy": (0.0, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, 1.1)}
Figures = dict[str, float]


def evaluation_cases(config: DictConfig, _: Sequence[int], __: torch.device) -> Iterator[Case]:
    """Made-up results of made-up people, by both protocols.

    CrowdPose's own tool is seldom installed: in its place pycocotools scores people whose area is
    CrowdPose's, all at once and again at each crowding.
    """
    count, people = config.evaluation_images, config.evaluation_people
    protocols: tuple[tuple[ProtocolName, Skeleton, Callable[..., Figures]], ...] = (
        ("coco", COCO, Evaluator("coco", "pycocotools")),
        ("crowdpose", CROWDPOSE, _crowdpose_by_pycocotools),
    )
    for protocol, skeleton, plain in protocols:
        truth, poses = _crowds(count, people, skeleton, config.seed)
        data = truth, results_from_poses(poses), skeleton
        variants = {"ours": partial(Evaluator(protocol), *data), "plain": partial(plain, *data)}
        name = f"{protocol}, {count} images"
        yield Case("evaluation", name, people, variants, _compare, work={"images": count})


def _compare(ours: Figures, plain: Figures) -> None:
    assert ours.keys() == plain.keys(), f"{sorted(ours)} and {sorted(plain)}"
    names = list(ours)
    np.testing.assert_allclose([ours[n] for n in names], [plain[n] for n in names], rtol=0, atol=1e-6)


def _crowdpose_by_pycocotools(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton
) -> Figures:
    people = [
        {**person, "area": _CROWDPOSE_AREA * person["bbox"][2] * person["bbox"][3]}
        for person in truth["annotations"]
    ]

    def score(lowest: float, limit: float) -> Figures:
        images = [image for image in truth["images"] if lowest <= image["crowdIndex"] < limit]
        known = {image["id"] for image in images}
        part = {**truth, "images": images, "annotations": [p for p in people if p["image_id"] in known]}
        return Evaluator("coco", "pycocotools")(
            part, [r for r in results if r["image_id"] in known], skeleton
        )

    figures = {name: value for name, value in score(0, 2).items() if name[2:] not in ("M", "L")}
    return figures | {name: round(score(*bounds)["AP"], 4) for name, bounds in _CROWDING.items()}


def _crowds(
    count: int, people: int, skeleton: Skeleton, seed: int
) -> tuple[dict[str, Any], dict[int, Poses]]:
    """Ground truth, and poses that miss it by a little or a lot; some people are missed, some invented."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    poses: dict[int, Poses] = {}
    for image in range(1, count + 1):
        at = crowd_keypoints(people, skeleton.num_keypoints, _SIZE, generator).numpy().astype(np.float64)
        annotations += [_annotation(person, image, rng) for person in at]
        poses[image] = _found(at, skeleton, rng)
    images = [
        {"id": i, "height": _SIZE[0], "width": _SIZE[1], "crowdIndex": float(rng.random())}
        for i in range(1, count + 1)
    ]
    numbered = [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=1)]
    return {"images": images, "annotations": numbered, "categories": [skeleton.to_category()]}, poses


def _annotation(person: np.ndarray, image: int, rng: np.random.Generator) -> dict[str, Any]:
    seen = 2.0 * (rng.random(len(person)) < 0.8)  # VISIBLE or ABSENT
    points = np.concatenate([INDEX_FROM_POINT.apply(person), seen[:, None]], axis=1)
    low, (width, height) = person.min(axis=0), np.ptp(person, axis=0)
    return {
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": (points * (seen > 0)[:, None]).ravel().tolist(),
        "bbox": [*low.tolist(), float(width), float(height)],
        "area": float(0.6 * width * height),
    }


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
