"""Average precision and recall by COCO's and CrowdPose's protocols, computed by COCO tools."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from swahr.evaluation.records import coco_records
from swahr.skeleton import CROWDPOSE, Skeleton

ProtocolName = Literal["coco", "crowdpose"]
Backend = Literal["faster-coco-eval", "pycocotools", "crowdposetools"]

_CLASSES = {  # module and name of the data set and of the evaluation class
    "faster-coco-eval": (("faster_coco_eval", "COCO"), ("faster_coco_eval", "COCOeval_faster")),
    "pycocotools": (("pycocotools.coco", "COCO"), ("pycocotools.cocoeval", "COCOeval")),
    "crowdposetools": (("crowdposetools.coco", "COCO"), ("crowdposetools.cocoeval", "COCOeval")),
}
_SUPPORTED = {
    "coco": ("faster-coco-eval", "pycocotools"),
    "crowdpose": ("faster-coco-eval", "crowdposetools"),
}
_ALL, _MEDIUM, _LARGE = range(3)  # COCO's ranges of person area
_CROWDING = {"AP_easy": (-np.inf, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, np.inf)}


@runtime_checkable
class _Engine(Protocol):
    """What the evaluation classes have in common."""

    params: Any
    eval: dict[str, Any]

    def evaluate(self) -> None: ...

    def accumulate(self) -> None: ...


class Evaluator:
    """Compare results with ground truth.

    ``coco``: AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL, with each annotation's ``area`` in OKS.
    ``crowdpose``: AP AP50 AP75 AR AR50 AR75 AP_easy AP_medium AP_hard. OKS takes 0.53 of the box for the
    area, and the crowding of an image is its ``crowdIndex``: easy below 0.2, hard from 0.8. As in the
    official tool (Li et al., CVPR 2019) these three have four digits.

    At most 20 people per image count. A figure without any person to find is -1.

    Args:
        protocol: ``coco`` or ``crowdpose``.
        backend: ``faster-coco-eval``; or the official oracles, ``pycocotools`` for COCO and, where it is
            installed, ``crowdposetools`` for CrowdPose.

    Raises:
        ValueError: an unknown protocol, or a backend whose figures would be wrong for it.
    """

    def __init__(self, protocol: ProtocolName = "coco", backend: Backend = "faster-coco-eval") -> None:
        if protocol not in _SUPPORTED:
            raise ValueError(f"expected protocol {' or '.join(map(repr, _SUPPORTED))}, got {protocol!r}")
        if backend not in _SUPPORTED[protocol]:
            raise ValueError(
                f"backend {backend!r} cannot compute the protocol '{protocol}' correctly; use "
                f"{' or '.join(_SUPPORTED[protocol])}"
            )
        self.protocol = protocol
        self.backend = backend

    def __call__(
        self, ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], skeleton: Skeleton
    ) -> dict[str, float]:
        """Return the protocol's figures by name, as fractions.

        Args:
            ground_truth: COCO format, keypoints in pixel indices; only read.
            results: COCO results, in pixel indices; the ids of their images must be in ``ground_truth``.
            skeleton: gives the number of keypoints and the OKS sigmas.

        Raises:
            ImportError: the backend is not installed.
            ValueError: ground truth and results do not fit each other, the skeleton or the protocol.
        """
        needed = "area" if self.protocol == "coco" else "crowdIndex"
        truth, found = coco_records(ground_truth, results, skeleton, needed=needed)
        with contextlib.redirect_stdout(io.StringIO()):  # the oracles print their progress
            engine = self._engine(truth, found, skeleton)
            engine.evaluate()
            engine.accumulate()
            if self.protocol == "coco":
                return _coco_figures(engine.eval["precision"], engine.eval["recall"])
            return self._crowdpose_figures(engine, truth["images"])

    def _engine(self, truth: dict[str, Any], found: dict[str, Any], skeleton: Skeleton) -> _Engine:
        dataset_class, evaluation_class = (self._imported(*place) for place in _CLASSES[self.backend])
        datasets = [dataset_class() for _ in range(2)]
        for dataset, records in zip(datasets, (truth, found), strict=True):
            dataset.dataset = records
            dataset.anno_file = None  # crowdposetools wants it to be there
            dataset.createIndex()
        if self.backend == "faster-coco-eval":
            engine: _Engine = evaluation_class(
                *datasets,
                iouType="keypoints" if self.protocol == "coco" else "keypoints_crowd",
                kpt_oks_sigmas=list(skeleton.sigmas),
                use_area=self.protocol == "coco",
            )
            return engine
        if self.backend == "crowdposetools" and skeleton.sigmas != CROWDPOSE.sigmas:
            raise ValueError(
                f"backend 'crowdposetools' knows CrowdPose's keypoints only, not those of '{skeleton.name}'; "
                "use faster-coco-eval"
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

    def _crowdpose_figures(self, engine: _Engine, images: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        figures = _coco_figures(engine.eval["precision"], engine.eval["recall"])
        named = {name: figures[name] for name in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")}
        for name, (lowest, limit) in _CROWDING.items():
            chosen = [image["id"] for image in images if lowest <= image["crowdIndex"] < limit]
            engine.params.imgIds = chosen
            engine.evaluate()
            engine.accumulate()
            named[name] = (
                round(float(np.mean(engine.eval["precision"][:, :, :, _ALL])), 4) if chosen else -1.0
            )
        return named


def _coco_figures(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """COCO's ten figures from precision (OKS thresholds, recalls, 1, areas, 1) and recall (same, without)."""
    figures: dict[str, float] = {}
    for name, values in (("AP", precision), ("AR", recall)):
        values = np.moveaxis(values, -2, 0)
        figures |= {
            name: _mean_where_defined(values[_ALL]),
            f"{name}50": _mean_where_defined(values[_ALL][0]),
            f"{name}75": _mean_where_defined(values[_ALL][5]),
            f"{name}M": _mean_where_defined(values[_MEDIUM]),
            f"{name}L": _mean_where_defined(values[_LARGE]),
        }
    return figures


def _mean_where_defined(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
