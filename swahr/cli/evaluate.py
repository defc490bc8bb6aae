"""``swahr evaluate``."""

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from swahr.build import TEST_TIME_GROUPS
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.cli.command import fresh_folder, report
from swahr.data.datamodule import validation_loader
from swahr.evaluation import person_category, results_from_poses, write_results
from swahr.files import write_json
from swahr.images import write_image
from swahr.predictor import RUN_SETTINGS, Predictor
from swahr.provenance import provenance
from swahr.structures import LabelledImage
from swahr.training.build import annotation_files, build_evaluation, build_source, data_stamp, log_findings
from swahr.training.callbacks import prediction_page

_log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> float:
    """Evaluate a checkpoint on the validation images of ``config.data``; returns the AP."""
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust or ())
    node = config.data.module
    source = build_source(node.val, config.data.skeleton)
    checkpoint.check_skeleton(source.skeleton, source="the validation data")
    truth = source.ground_truth()
    metrics_of = build_evaluation(config.evaluation, truth, checkpoint.skeleton)
    folder = fresh_folder(config.output)
    log_findings(source)
    predictor = Predictor.with_settings(checkpoint, config, **{name: config[name] for name in RUN_SETTINGS})
    loader = validation_loader(source, batch_size=node.val_batch_size, workers=node.workers)
    ids: list[int] = []
    found = predictor.stream(_read(loader, ids))
    in_order = list(track(found, "finding people", console=Console(stderr=True), total=len(source)))
    poses = dict(zip(ids, in_order, strict=True))
    category = person_category(truth, checkpoint.skeleton)
    write_results(folder / "results.json", results_from_poses(poses, category_id=category))
    metrics = metrics_of(poses)
    result = {**metrics, **compared(metrics["AP"], config, checkpoint, images=len(poses))}
    stamp = provenance(seed=config.seed, files=[config.checkpoint, *annotation_files([node.val])])
    stamp |= data_stamp(val=source)
    write_json(folder / "metrics.json", {"metrics": result, "images": len(poses), "stamp": stamp})
    if config.pictures:
        count = min(config.pictures, len(source))
        indices = np.linspace(0, len(source) - 1, count).round().astype(int).tolist()
        write_image(folder / "predictions.png", prediction_page(source, indices, poses))
    report(result)
    return metrics["AP"]


def _read(loader: Iterable[list[LabelledImage]], ids: list[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """The loader's images, one by one; appends their ids to ``ids``."""
    for labelled in itertools.chain.from_iterable(loader):
        ids.append(labelled.image_id)
        yield labelled.image


def compared(ap: float, config: DictConfig, checkpoint: Checkpoint, *, images: int) -> dict[str, Any]:
    """The AP that the checkpoint's experiment expects, and whether ``ap`` is within its tolerance.

    Empty if none is expected, or if images, protocol or test-time settings differ from the experiment's.
    """
    expected = checkpoint.config.get("expected")
    if not expected:
        return {}
    validation: Any = OmegaConf.to_container(config.data.module.val, resolve=False)
    theirs = checkpoint.config["data"]["module"]["val"]
    insist = {"insist": None}  # does not change the images; older checkpoints do not have it
    same_data = validation | insist == theirs | insist
    same_settings = all(
        OmegaConf.to_container(config[group], resolve=True) == checkpoint.config[group]
        for group in (*TEST_TIME_GROUPS, "evaluation")
    )
    if images != expected["images"] or not (same_data and same_settings):
        return {}
    target, tolerance = expected["AP"], expected["tolerance"]
    reached = abs(ap - target) <= tolerance
    verdict = "reached" if reached else "NOT reached"
    _log.info("AP %.4f, expected %.4f within %.4f: %s", ap, target, tolerance, verdict)
    return {"expected": {"AP": target, "tolerance": tolerance, "reached": reached}}
