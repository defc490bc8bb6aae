"""``swahr evaluate``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from swahr.build import annotation_files, build_evaluation, build_source
from swahr.checkpoint import load_checkpoint
from swahr.cli.command import fresh_folder, report, run_command, write_json
from swahr.data import Source, validation_loader
from swahr.draw import contact_sheet, draw_poses, write_image
from swahr.evaluation import results_from_poses, write_results
from swahr.predictor import Predictor
from swahr.stamp import make_stamp
from swahr.structures import Poses


def evaluate(config: DictConfig) -> float:
    """Evaluate a checkpoint on the validation images of ``config.data``; the result is the AP."""
    checkpoint = load_checkpoint(config.checkpoint)
    node = config.data.module
    source = build_source(node.val, config.data.skeleton)
    checkpoint.check_skeleton(source.skeleton, source="the validation data")
    folder = fresh_folder(config.output)
    predictor = Predictor.with_settings(checkpoint, config, device=config.device, precision=config.precision)
    poses: dict[int, Poses] = {}
    loader = validation_loader(
        source, batch_size=max(config.batch_size, node.val_batch_size), workers=node.workers
    )
    for images in track(loader, "finding people", console=Console(stderr=True), total=len(loader)):
        found = predictor.predict([image.image for image in images])
        poses.update(zip((image.image_id for image in images), found, strict=True))
    write_results(folder / "results.json", results_from_poses(poses))
    figures = build_evaluation(config.evaluation, source.ground_truth(), checkpoint.skeleton)(poses)
    stamp = make_stamp(seed=config.seed, files=[config.checkpoint, *annotation_files([node.val])])
    write_json(folder / "metrics.json", {"figures": figures, "images": len(poses), "stamp": stamp})
    if config.pictures:
        write_image(folder / "predictions.png", _page(source, poses, config.pictures))
    report(figures)
    return figures["AP"]


def _page(source: Source, poses: Mapping[int, Poses], count: int) -> npt.NDArray[np.uint8]:
    """Drawn predictions of images spread evenly over the source."""
    indices = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)).tolist()
    labelled = [source[index] for index in indices]
    images = [draw_poses(one.image, poses[one.image_id]) for one in labelled]
    captions = [
        f"{source.describe(index)}: {len(poses[one.image_id])} found, {len(one.annotations)} annotated"
        for index, one in zip(indices, labelled, strict=True)
    ]
    return contact_sheet(images, captions)


def main() -> None:
    """Run the command line."""
    run_command("evaluate", evaluate)
