"""``swahr evaluate``."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from swahr.build import TEST_TIME_GROUPS, annotation_files, build_evaluation, build_source
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.cli.command import fresh_folder, report, run_command, write_json
from swahr.data import Source, validation_loader
from swahr.draw import contact_sheet, count_drawn, draw_poses, write_image
from swahr.evaluation import results_from_poses, write_results
from swahr.predictor import RUN_SETTINGS, Predictor
from swahr.stamp import make_stamp
from swahr.structures import LabelledImage, Poses

_log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> float:
    """Evaluate a checkpoint on the validation images of ``config.data``; the result is the AP."""
    checkpoint = load_checkpoint(config.checkpoint)
    node = config.data.module
    source = build_source(node.val, config.data.skeleton)
    checkpoint.check_skeleton(source.skeleton, source="the validation data")
    folder = fresh_folder(config.output)
    predictor = Predictor.with_settings(checkpoint, config, **{name: config[name] for name in RUN_SETTINGS})
    loader = validation_loader(source, batch_size=node.val_batch_size, workers=node.workers)
    ids: list[int] = []
    found = predictor.stream(_read(loader, ids))
    in_order = list(track(found, "finding people", console=Console(stderr=True), total=len(source)))
    poses = dict(zip(ids, in_order, strict=True))
    write_results(folder / "results.json", results_from_poses(poses))
    figures = build_evaluation(config.evaluation, source.ground_truth(), checkpoint.skeleton)(poses)
    result = {**figures, **compared(figures["AP"], config, checkpoint, images=len(poses))}
    stamp = make_stamp(seed=config.seed, files=[config.checkpoint, *annotation_files([node.val])])
    write_json(folder / "metrics.json", {"figures": result, "images": len(poses), "stamp": stamp})
    if config.pictures:
        write_image(folder / "predictions.png", _page(source, poses, config.pictures))
    report(result)
    return figures["AP"]


def _read(loader: Iterable[list[LabelledImage]], ids: list[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """The loader's images one by one; their ids are noted."""
    for labelled in itertools.chain.from_iterable(loader):
        ids.append(labelled.image_id)
        yield labelled.image


def compared(ap: float, config: DictConfig, checkpoint: Checkpoint, *, images: int) -> dict[str, Any]:
    """What the checkpoint's experiment expects, and whether the AP is within its tolerance.

    Empty where nothing is expected, or of other images, another protocol or other test-time settings.
    """
    expected = checkpoint.config.get("expected")  # older checkpoints have no such key
    groups = (*TEST_TIME_GROUPS, "evaluation")
    as_stated = all(
        OmegaConf.to_container(config[group], resolve=True) == checkpoint.config[group] for group in groups
    )
    validation = OmegaConf.to_container(config.data.module.val, resolve=False)
    same_data = validation == checkpoint.config["data"]["module"]["val"]
    if not expected or images != expected["images"] or not (as_stated and same_data):
        return {}
    reached = abs(ap - expected["AP"]) <= expected["tolerance"]
    _log.info(
        "AP %.4f, expected %.4f within %.4f: %s",
        ap,
        expected["AP"],
        expected["tolerance"],
        "reached" if reached else "NOT reached",
    )
    return {"expected": {"AP": expected["AP"], "tolerance": expected["tolerance"], "reached": reached}}


def _page(source: Source, poses: Mapping[int, Poses], count: int) -> npt.NDArray[np.uint8]:
    """Drawn predictions of images spread evenly over the source."""
    indices = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)).tolist()
    images, captions = [], []
    for index in indices:
        labelled = source[index]
        found = poses[labelled.image_id]
        images.append(draw_poses(labelled.image, found))
        captions.append(
            f"{source.describe(index)}: {count_drawn(found)} drawn of {len(found)} found, "
            f"{len(labelled.annotations)} annotated"
        )
    return contact_sheet(images, captions)


def main() -> None:
    """Run the command line."""
    run_command("evaluate", evaluate)
