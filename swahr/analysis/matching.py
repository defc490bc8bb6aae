"""Which detection is whose, image by image, as COCO's evaluator decides."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from swahr.choices import check_choice
from swahr.coco_json import AREA_OF_BOX
from swahr.evaluation.evaluator import ProtocolName
from swahr.evaluation.tool_input import tool_datasets
from swahr.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Matching:
    """The people of a data set, its detections, and who matches whom.

    Attributes:
        images: the ground truth's images in ascending order of their ids.
        people: the annotated people by new ids; ``area`` is that of the protocol, and ``image_id`` the
            position in ``images``, from 1.
        detections: the results of people's category by new ids, likewise.
        ranges: per range of person area (all; for COCO also medium and large), the record that pycocotools
            keeps of each image, None where there is nobody: ``dtIds`` in descending order of scores, at most
            20; ``gtIds``; ``dtMatches`` (thresholds, detections), the matched person's id or 0; ``dtIgnore``.
    """

    images: list[dict[str, Any]]
    people: dict[int, dict[str, Any]]
    detections: dict[int, dict[str, Any]]
    ranges: list[list[dict[str, Any] | None]]


def match(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    protocol: ProtocolName,
    thresholds: Sequence[float] | None = None,
) -> Matching:
    """Match detections greedily, by descending score, to the person with the highest OKS.

    Args:
        truth: COCO format.
        results: COCO results on its images.
        skeleton: the keypoints and their OKS sigmas.
        protocol: ``coco`` or ``crowdpose``, as for `Evaluator`.
        thresholds: OKS from which a match counts; None for those of AP.

    Raises:
        ValueError: ground truth and results do not match each other, the skeleton or the protocol.
    """
    check_choice("protocol", protocol, ("coco", "crowdpose"))
    coco = protocol == "coco"
    contents = tool_datasets(truth, results, skeleton, needed="area" if coco else "crowdIndex")
    for person in () if coco else contents[0]["annotations"]:
        person["area"] = AREA_OF_BOX * person["bbox"][2] * person["bbox"][3]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        engine = COCOeval(*map(_dataset, contents), "keypoints")
        engine.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        if not coco:
            engine.params.areaRng, engine.params.areaRngLbl = engine.params.areaRng[:1], ["all"]
        if thresholds is not None:
            engine.params.iouThrs = np.array(thresholds)
        engine.evaluate()
    numbers = [image["id"] for image in contents[0]["images"]]
    count = len(numbers)
    return Matching(
        images=[truth["images"][i] for i in np.argsort(numbers)],
        people=engine.cocoGt.anns,
        detections=engine.cocoDt.anns,
        ranges=[engine.evalImgs[start : start + count] for start in range(0, len(engine.evalImgs), count)],
    )


def _dataset(content: dict[str, Any]) -> COCO:
    dataset = COCO()
    dataset.dataset = content
    dataset.createIndex()
    return dataset
