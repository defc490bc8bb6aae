"""Average precision and recall in COCO's and CrowdPose's protocols."""

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from swahr.choices import check_choice
from swahr.evaluation.tool_input import tool_datasets
from swahr.skeleton import CROWDPOSE, Skeleton

ProtocolName = Literal["coco", "crowdpose"]
Tool = Literal["faster-coco-eval", "pycocotools", "crowdposetools"]

_CLASSES = {  # module and name of the dataset class and of the evaluation class
    "faster-coco-eval": (("faster_coco_eval", "COCO"), ("faster_coco_eval", "COCOeval_faster")),
    "pycocotools": (("pycocotools.coco", "COCO"), ("pycocotools.cocoeval", "COCOeval")),
    "crowdposetools": (("crowdposetools.coco", "COCO"), ("crowdposetools.cocoeval", "COCOeval")),
}
_SUPPORTED = {
    "coco": ("faster-coco-eval", "pycocotools"),
    "crowdpose": ("faster-coco-eval", "crowdposetools"),
}
_ALL, _MEDIUM, _LARGE = range(3)  # indices of COCO's ranges of person area
CROWDING = {"AP_easy": (-np.inf, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, np.inf)}
"""The ``crowdIndex`` of the images of each CrowdPose metric: from the first number to below the second."""


class Evaluator:
    """Computes the metrics of a protocol.

    ``coco``: AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL. OKS uses each annotation's ``area``.
    ``crowdpose`` (Li et al., CVPR 2019): AP AP50 AP75 AR AR50 AR75 AP_easy AP_medium AP_hard. OKS uses 0.53
    times the area of the box. An image is easy if its ``crowdIndex`` is below 0.2, and hard from 0.8; the
    three AP_* metrics are rounded to four decimals, as in the official tool.

    At most 20 people per image are evaluated. A metric without ground-truth people is -1 (COCO's convention).

    Args:
        protocol: ``coco`` or ``crowdpose``.
        backend: ``faster-coco-eval``, or an official tool: ``pycocotools`` for COCO, ``crowdposetools``
            (not installed with swahr) for CrowdPose.

    Raises:
        ValueError: an unknown protocol, or a backend that does not compute it correctly.
    """

    def __init__(self, protocol: ProtocolName = "coco", backend: Tool = "faster-coco-eval") -> None:
        check_choice("protocol", protocol, _SUPPORTED)
        check_choice(f"backend of protocol '{protocol}'", backend, _SUPPORTED[protocol])
        self.protocol, self.backend = protocol, backend

    def __call__(
        self, ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton
    ) -> dict[str, float]:
        """The protocol's metrics by name, as fractions.

        Args:
            ground_truth: COCO format; it is not modified.
            results: COCO results on images of ``ground_truth``; those of other categories than its people
                are ignored.
            skeleton: the keypoints and their OKS sigmas.

        Raises:
            ImportError: the backend is not installed.
            ValueError: ground truth and results do not match each other, the skeleton or the protocol.
        """
        needed = "area" if self.protocol == "coco" else "crowdIndex"
        truth, predicted = tool_datasets(ground_truth, results, skeleton, needed=needed)
        with contextlib.redirect_stdout(io.StringIO()):  # the official tools print their progress
            engine = self._engine(truth, predicted, skeleton)
            engine.evaluate()
            engine.accumulate()
            if self.protocol == "coco":
                return _coco_metrics(engine.eval["precision"], engine.eval["recall"])
            return self._crowdpose_metrics(engine, truth["images"])

    def _engine(self, truth: dict[str, Any], predicted: dict[str, Any], skeleton: Skeleton) -> Any:
        """An evaluation object with ``params``, ``eval``, ``evaluate()`` and ``accumulate()``."""
        dataset_class, evaluation_class = (self._imported(*name) for name in _CLASSES[self.backend])
        datasets = [dataset_class(), dataset_class()]
        for dataset, content in zip(datasets, (truth, predicted), strict=True):
            dataset.dataset = content
            dataset.anno_file = None  # crowdposetools reads this attribute
            dataset.createIndex()
        if self.backend == "faster-coco-eval":
            coco = self.protocol == "coco"
            kind = "keypoints" if coco else "keypoints_crowd"
            sigmas = list(skeleton.sigmas)
            return evaluation_class(*datasets, iouType=kind, kpt_oks_sigmas=sigmas, use_area=coco)
        if self.backend == "crowdposetools" and skeleton.sigmas != CROWDPOSE.sigmas:
            raise ValueError(
                "backend 'crowdposetools': expected CrowdPose's keypoints, got those of "
                f"'{skeleton.name}'; use faster-coco-eval"
            )
        engine = evaluation_class(*datasets, "keypoints")
        engine.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        return engine

    def _imported(self, module: str, name: str) -> Any:
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ImportError(
                f"backend '{self.backend}' needs the package {module.partition('.')[0]}, which cannot be "
                f"imported ({error}); install it, or use faster-coco-eval"
            ) from error

    def _crowdpose_metrics(self, engine: Any, images: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        metrics = _coco_metrics(engine.eval["precision"], engine.eval["recall"])
        metrics = {name: metrics[name] for name in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")}
        for name, (lowest, limit) in CROWDING.items():
            chosen = [image["id"] for image in images if lowest <= image["crowdIndex"] < limit]
            engine.params.imgIds = chosen
            engine.evaluate()
            engine.accumulate()
            precision = engine.eval["precision"][:, :, :, _ALL]
            metrics[name] = round(float(np.mean(precision)), 4) if chosen else -1.0
        return metrics


def check_evaluable(
    evaluator: Callable[..., dict[str, float]], ground_truth: Mapping[str, Any], skeleton: Skeleton
) -> None:
    """Evaluate no results at all, to find what is wrong with the ground truth before there are any.

    Args:
        evaluator: an `Evaluator`.
        ground_truth: COCO format.
        skeleton: the keypoints.

    Raises:
        ValueError: it does not suit the protocol, or has nobody to find.
    """
    if evaluator(ground_truth, [], skeleton)["AP"] < 0:
        raise ValueError(
            f"the ground truth has no person that counts among {len(ground_truth['annotations'])} "
            f"annotations in {len(ground_truth['images'])} images, so that AP would be -1: crowd regions and "
            "people whose num_keypoints is 0 do not count; choose other images, or correct num_keypoints"
        )


def _coco_metrics(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """COCO's metrics from precision (thresholds, recalls, 1, areas, 1) and recall (without recalls axis)."""
    metrics: dict[str, float] = {}
    for name, values in (("AP", precision), ("AR", recall)):
        every, medium, large = np.moveaxis(values, -2, 0)[[_ALL, _MEDIUM, _LARGE]]
        parts = {"": every, "50": every[0], "75": every[5], "M": medium, "L": large}
        metrics |= {name + suffix: _mean_where_defined(part) for suffix, part in parts.items()}
    return metrics


def _mean_where_defined(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
