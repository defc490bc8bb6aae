"""Tests of a single-person network: behind a bottom-up network, and on annotated people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablation_parts.analysis import calibration
from ablation_parts.testing import Detections
from swahr.analysis import Anatomy, fit_anatomy, pckh, visibility_metrics
from swahr.build import chosen_skeleton
from swahr.build_data import build_source
from swahr.checkpoint import load_checkpoint
from swahr.cli.command import compose_config
from swahr.cli.evaluate import evaluate
from swahr.cli.overrides import compose_checked
from swahr.data import Source
from swahr.evaluation import Evaluator
from swahr.evaluation.results import read_results, write_results

FIRST = "first"
"""The name of the bottom-up network alone among the ways to use both."""


def run_people_tests(
    checkpoint: Path, tests: Mapping[str, Mapping[str, Any]], choices: Mapping[str, Any], folder: Path
) -> dict[str, Detections]:
    """Test a single-person network in each of ``choices["decodings"]``.

    Those are settings of `swahr evaluate`, in which ``checkpoint`` is the bottom-up network, or absent for
    annotated people.

    Args:
        checkpoint: the single-person network.
        tests: settings of `swahr evaluate` by test set.
        choices: ``decodings``, ``decoding``, ``evaluations`` and ``anatomy`` of the plan's configuration. The
            last are the settings of people whose limbs and joint angles are plausible.
        folder: for results files.
    """
    usual = _source(_configuration(checkpoint, choices["anatomy"], folder / "anatomy"))
    anatomy = fit_anatomy(usual.ground_truth(), usual.skeleton)
    return {
        name: _test(checkpoint, test, choices, anatomy, folder / f"results_{name}.json")
        for name, test in tests.items()
    }


def _test(
    checkpoint: Path,
    test: Mapping[str, Any],
    choices: Mapping[str, Any],
    anatomy: Anatomy,
    file: Path,
) -> Detections:
    ways: Mapping[str, Mapping[str, Any]] = choices["decodings"]
    folder = file.with_suffix("")
    configs = {
        way: _configuration(checkpoint, {**test, **changes}, folder / way) for way, changes in ways.items()
    }
    _check_images(file, configs)
    results = {way: _results(config) for way, config in configs.items()}
    results |= _exchanged(results[FIRST], results[choices["decoding"]])
    source = _source(configs[choices["decoding"]])
    truth = source.ground_truth()
    metrics = {
        way: {
            protocol: _rounded(Evaluator(protocol=protocol)(truth, found, source.skeleton))
            for protocol in choices["evaluations"]
        }
        | {"people": _rounded(_of_people(truth, found, anatomy))}
        for way, found in results.items()
    }
    chosen = results[choices["decoding"]]
    write_results(file, chosen)
    report = {
        "images": len(source),
        "metrics": metrics,
        "scale_map": None,
        "calibration": calibration(truth, chosen, source.skeleton),
    }
    return Detections(truth, chosen, source.skeleton, file, report, results.get(FIRST))


def _configuration(checkpoint: Path, changes: Mapping[str, Any], output: Path) -> DictConfig:
    """Of `swahr evaluate`."""
    if "checkpoint" not in changes:
        changes = {"checkpoint": str(checkpoint), **changes}
    elif changes.get("second_stage") == "crops":
        changes = {**changes, "second_stage.checkpoint": str(checkpoint)}
    values = {**changes, "output": str(output), "pictures": 0}
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return compose_checked("evaluate", overrides, partial(compose_config, "evaluate"))


def _check_images(file: Path, configs: Mapping[str, DictConfig]) -> None:
    """Raise ValueError if not all are of the same images: each network's own training may have had others."""
    images = {
        way: OmegaConf.to_container(config.data.module.val, resolve=True) for way, config in configs.items()
    }
    way, expected = next(iter(images.items()))
    for other, found in images.items():
        if found != expected:
            raise ValueError(
                f"{file.name}: expected the same images for {way} and {other}, but data.module.val is "
                f"{expected} for {way} and {found} for {other}; state what differs in `tests`"
            )


def _results(config: DictConfig) -> list[dict[str, Any]]:
    """The detections of `swahr evaluate`, in whose folder there may be those of a test that was cut off."""
    shutil.rmtree(config.output, ignore_errors=True)
    with redirect_stdout(StringIO()):  # its metrics
        evaluate(config)
    return read_results(Path(config.output, "results.json"))


def _exchanged(first: list[dict[str, Any]], both: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What scores and keypoints gain: each stage's keypoints with the other's scores of people.

    Empty if the second stage left somebody out, so that it is not known who is who.
    """
    if [one["image_id"] for one in first] != [one["image_id"] for one in both]:
        return {}
    pairs = list(zip(first, both, strict=True))
    return {
        "rescored": [{**ours, "score": theirs["score"]} for ours, theirs in pairs],
        "refined": [{**theirs, "score": ours["score"]} for ours, theirs in pairs],
    }


def _source(config: DictConfig) -> Source:
    skeleton = chosen_skeleton(config.data.skeleton, load_checkpoint(config.checkpoint))
    source: Source = build_source(config.data.module.val, skeleton)
    return source


def _of_people(
    truth: Mapping[str, Any], results: list[dict[str, Any]], anatomy: Anatomy
) -> dict[str, float | None]:
    """PCKh, AP by visibility, and shares of implausible poses among those found and annotated."""
    by_visibility = visibility_metrics(truth, results, anatomy.skeleton)
    return {
        "PCKh": pckh(truth, results, anatomy.skeleton).overall,
        "AP_visible": by_visibility["visible"]["AP"],
        "AP_occluded": by_visibility["occluded"]["AP"],
        "implausible": anatomy.of_results(results).share,
        "implausible_annotated": anatomy.of_annotations(truth).share,
    }


def _rounded(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in metrics.items()}
