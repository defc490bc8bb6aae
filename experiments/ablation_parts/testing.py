"""Tests of a trained network: one pass per test set, decoded in every way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from sweep.passes import Pass, checked, prepared
from sweep.settings import Setting, setting_of

from ablation_parts.analysis import ScaleReadings, calibration
from swahr.build import build_network_from
from swahr.checkpoint import load_checkpoint
from swahr.evaluation import person_category, results_from_poses
from swahr.evaluation.results import write_results
from swahr.skeleton import Skeleton
from swahr.structures import Poses

Planned = tuple[Pass, dict[tuple[str, str], str]]
"""A pass, and the identities of its settings by decoding and protocol."""


@dataclass(frozen=True, eq=False)
class Detections:
    """A test set, and the detections of the main decoding on it.

    Attributes:
        truth: COCO format.
        results: COCO format.
        skeleton: the keypoints.
        file: where the results are.
        report: metrics by decoding and protocol, scale map against size, and calibration.
        first: the results of the first stage alone, if a second one is tested.
    """

    truth: Mapping[str, Any]
    results: list[dict[str, Any]]
    skeleton: Skeleton
    file: Path
    report: dict[str, Any]
    first: list[dict[str, Any]] | None = None


def run_tests(
    checkpoint: Path, tests: Mapping[str, Mapping[str, Any]], choices: Mapping[str, Any], folder: Path
) -> dict[str, Detections]:
    """Test a checkpoint.

    Args:
        checkpoint: the weights.
        tests: settings of `swahr evaluate` by test set.
        choices: ``decodings``, ``decoding`` and ``evaluations`` of the ablation's configuration.
        folder: for results files.
    """
    heads = load_checkpoint(checkpoint).config["model"]["heads"]
    return {
        name: _test(
            _pass(checkpoint, test, choices, "scale_maps" in heads), choices, folder / f"results_{name}.json"
        )
        for name, test in tests.items()
    }


def parameters(checkpoint: Path) -> int:
    """The number of the network's parameters."""
    return sum(one.numel() for one in build_network_from(load_checkpoint(checkpoint)).parameters())


def _pass(
    checkpoint: Path, test: Mapping[str, Any], choices: Mapping[str, Any], has_scale_maps: bool
) -> Planned:
    """The pass over a test set."""
    settings: dict[tuple[str, str], Setting] = {}
    for decoding, changes in choices["decodings"].items():
        for protocol in choices["evaluations"]:
            setting = setting_of(str(checkpoint), {}, {**test, **changes, "evaluation": protocol})
            refine = str(OmegaConf.select(setting.config, "decode.refine._target_"))
            if has_scale_maps or not refine.endswith("WithScaleMap"):
                settings[decoding, protocol] = setting
    (one,) = prepared(list(settings.values()))
    return one, {key: setting.identity for key, setting in settings.items()}


def _test(
    planned: tuple[Pass, dict[tuple[str, str], str]], choices: Mapping[str, Any], file: Path
) -> Detections:
    one, identities = planned
    truth, skeleton = one.source.ground_truth(), one.source.skeleton
    pipelines = {decoding: one.pipelines[identity] for (decoding, _), identity in identities.items()}
    if any(pipeline.steps for pipeline in pipelines.values()):
        raise ValueError("postprocess: expected none in the ablation, got steps; remove them")
    poses: dict[str, dict[int, Poses]] = {decoding: {} for decoding in pipelines}
    readings = ScaleReadings(truth, skeleton)
    for index, image_id, maps in one.maps():
        readings.add(image_id, maps)
        for decoding, pipeline in pipelines.items():
            poses[decoding][image_id] = checked(pipeline.decode(maps)[0], one.source.describe(index))
    metrics: dict[str, dict[str, dict[str, float]]] = {decoding: {} for decoding in pipelines}
    for (decoding, protocol), identity in identities.items():
        found = one.metrics[identity](poses[decoding])
        metrics[decoding][protocol] = {name: round(value, 6) for name, value in found.items()}
    category = person_category(truth, skeleton)
    results = results_from_poses(poses[choices["decoding"]], category_id=category)
    write_results(file, results)
    report = {
        "images": len(one.source),
        "metrics": metrics,
        "scale_map": readings.summary(),
        "calibration": calibration(truth, results, skeleton),
    }
    return Detections(truth, results, skeleton, file, report)
