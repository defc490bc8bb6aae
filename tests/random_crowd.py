"""Random people in COCO's format, and results that find most of them, for tests of metrics."""

from typing import Any

import numpy as np

from swahr.skeleton import Skeleton

Entries = list[dict[str, Any]]


def crowd(
    skeleton: Skeleton, images: int = 30, seed: int = 0, noise: float = 0.1
) -> tuple[dict[str, Any], Entries]:
    """Up to three people per image, in a row; found with noise, twice, or not at all; some do not count."""
    rng = np.random.default_rng(seed)
    people, results, k = [], [], skeleton.num_keypoints
    for image_id in range(images):
        for number in range(int(rng.integers(0, 4))):
            size = float(rng.uniform(40, 200))
            points = rng.uniform(0, size, (k, 2)) + number * 120
            people.append(
                {
                    "id": len(people) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                    "bbox": [120.0 * number, 120.0 * number, size, size], "area": size**2 / 2,
                    "num_keypoints": int(rng.choice([0, k], p=[0.1, 0.9])),
                    "keypoints": np.column_stack([points, np.full(k, 2)]).ravel().tolist(),
                }
            )  # fmt: skip
            for _ in range(int(rng.integers(0, 3))):
                found = points + rng.normal(0, rng.uniform(0, noise) * size, points.shape)
                keypoints = np.column_stack([found, np.ones(k)]).ravel().tolist()
                score = float(rng.uniform())
                results.append(
                    {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": score}
                )
    entries = [{"id": i, "crowdIndex": [0.1, 0.5, 0.9][i % 3]} for i in range(images)]
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}
    return {"images": entries, "annotations": people, "categories": [category]}, results
