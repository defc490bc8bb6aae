"""AP of many subsets of the same results: images are matched anew only where their results change."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from swahr.analysis.bootstrap import ResampledMetrics
from swahr.analysis.matching import Matching, match
from swahr.coco_json import AREA_OF_BOX
from swahr.evaluation.evaluator import ProtocolName
from swahr.skeleton import Skeleton


class SubsetAP:
    """AP of the results that a mask chooses; the same as the evaluator's.

    Args:
        truth: COCO format.
        results: COCO results on its images, checked by the evaluator.
        skeleton: the keypoints and their OKS sigmas.
        protocol: ``coco`` or ``crowdpose``, as for `Evaluator`.
    """

    def __init__(
        self,
        truth: Mapping[str, Any],
        results: Sequence[Mapping[str, Any]],
        skeleton: Skeleton,
        protocol: ProtocolName,
    ) -> None:
        self._results, self._skeleton = results, skeleton
        self._categories = truth["categories"]
        self._images = {image["id"]: image for image in sorted(truth["images"], key=lambda one: one["id"])}
        self._people: dict[Any, list[Mapping[str, Any]]] = {image_id: [] for image_id in self._images}
        for person in truth["annotations"]:
            area = AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]
            self._people[person["image_id"]].append(
                {**person, "area": area} if protocol == "crowdpose" else person
            )
        positions: dict[Any, list[int]] = {image_id: [] for image_id in self._images}
        for position, result in enumerate(results):
            positions[result["image_id"]].append(position)
        self._positions = {image_id: np.array(own, dtype=int) for image_id, own in positions.items()}
        self._records: dict[tuple[Any, bytes], dict[str, Any] | None] = {}

    def __call__(self, keep: Bool[np.ndarray, " n"]) -> float:
        """AP of the results where ``keep`` is True."""
        chosen = {image_id: own[keep[own]] for image_id, own in self._positions.items()}
        keys = [(image_id, own.tobytes()) for image_id, own in chosen.items()]
        if unknown := [key for key in keys if key not in self._records]:
            matched = self._matched([key[0] for key in unknown], chosen)
            self._records |= dict(zip(unknown, matched, strict=True))
        records = [self._records[key] for key in keys]
        matching = Matching(list(self._images.values()), {}, {}, [records])
        return ResampledMetrics(matching)(np.ones(len(records), dtype=np.int64))["AP"]

    def _matched(self, image_ids: list[Any], chosen: Mapping[Any, np.ndarray]) -> list[dict[str, Any] | None]:
        """The records of some images, for people of any size."""
        truth = {
            "images": [self._images[image_id] for image_id in image_ids],
            "annotations": [person for image_id in image_ids for person in self._people[image_id]],
            "categories": self._categories,
        }
        results = [self._results[position] for image_id in image_ids for position in chosen[image_id]]
        return match(truth, results, self._skeleton, protocol="coco").ranges[0]
