"""``swahr evaluate``."""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from swahr.build import (
    TEST_TIME_GROUPS,
    chosen_skeleton,
    is_of_one_person,
    second_stage_files,
    second_stage_step,
)
from swahr.build_data import annotation_files, build_evaluation, build_source
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.choices import check_setting
from swahr.cli.command import fresh_folder, report
from swahr.cli.problems import finite_people, raise_problems
from swahr.data import Source
from swahr.data.datamodule import validation_loader
from swahr.evaluation import person_category, results_from_poses, write_results
from swahr.files import Journal, write_json
from swahr.images import write_image
from swahr.pipeline import Image
from swahr.predictor import RUN_SETTINGS, Predictor, check_run, located
from swahr.procedures.person import annotated_poses
from swahr.provenance import data_stamp, log_findings, provenance
from swahr.runs.description import settings
from swahr.runs.drawings import prediction_page
from swahr.structures import LabelledImage, Poses

_log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> float:
    """Evaluate a checkpoint on the validation images of ``config.data``; returns the AP.

    A single-person network is evaluated on the crops of the annotated people.

    Until all images are done, ``results.partial.jsonl`` has the results so far.

    Raises:
        ValueError: images failed, so that there are no metrics, or the page of pictures cannot be drawn; all
            other results are complete.
    """
    check_setting("pictures", config.pictures, int)
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust or ())
    node = config.data.module
    source = build_source(node.val, chosen_skeleton(config.data.skeleton, checkpoint))
    checkpoint.check_skeleton(source.skeleton, source="the validation data")
    truth = source.ground_truth()
    metrics_of = build_evaluation(config.evaluation, truth, source.skeleton)
    stated = settings(config)
    folder = fresh_folder(config.output)
    log_findings(source)
    find = _finder(checkpoint, config, source)
    category = person_category(truth, source.skeleton)
    found: dict[int, tuple[int, Poses]] = {}
    faults: dict[int, list[str]] = {}
    with Journal(folder / "results.partial.jsonl") as journal:
        for index, image_id, outcome in find():
            if isinstance(outcome, Exception):
                faults[index] = [str(located(outcome, source.describe(index)))]
                continue
            own, faults[index] = finite_people(outcome, source.describe(index))
            found[index] = image_id, own
            results = results_from_poses({image_id: own}, category_id=category)
            journal.append({"image_id": image_id, "results": results})
        poses = dict(found[index] for index in sorted(found))
        write_results(folder / "results.json", results_from_poses(poses, category_id=category))
        journal.remove()
    problems = [text for index in sorted(faults) for text in faults[index]]
    summary = f"no metrics, because {len(problems)} of {len(source)} images have problems"
    raise_problems(problems, summary=summary, folder=folder)
    metrics = metrics_of(poses)
    result = {**metrics, **compared(metrics["AP"], config, checkpoint, images=len(poses))}
    files: list[str | Path] = [checkpoint.path, *second_stage_files(config), *annotation_files([node.val])]
    stamp = provenance(seed=config.seed, files=files)
    stamp |= data_stamp(val=source) | stated | {"checkpoint": checkpoint.stamp}
    write_json(folder / "metrics.json", {"metrics": result, "images": len(poses), "stamp": stamp})
    if config.pictures:
        problems = _draw_page(folder / "predictions.png", source, config.pictures, poses)
        raise_problems(problems, summary="no page of pictures", folder=folder)
    report(result)
    return metrics["AP"]


def _finder(
    checkpoint: Checkpoint, config: DictConfig, source: Source
) -> Callable[[], Iterator[tuple[int, int, Poses | Exception]]]:
    """Load the networks; returns a function that yields index, id, and poses or error of each image."""
    run, loading = {name: config[name] for name in RUN_SETTINGS}, config.data.module
    sizes = {"batch_size": loading.val_batch_size, "workers": loading.workers}
    if not is_of_one_person(checkpoint):
        predictor = Predictor.with_settings(checkpoint, config, trust=config.trust or (), **run)
        return partial(outcomes, predictor, source, **sizes)
    check_run(checkpoint, **run)
    _check_has_effect(checkpoint, config)
    if checkpoint.is_exported:
        run = {"precision": config.precision, "backend": config.backend}
    own = {**config.second_stage, "checkpoint": str(checkpoint.path)}
    step = second_stage_step(
        OmegaConf.create({"second_stage": own}),
        source.skeleton,
        trust=config.trust or (),
        decode=OmegaConf.to_container(config.decode, resolve=True),
        **run,
    )
    assert step is not None
    return partial(_of_annotated_people, step, source, **sizes)


def _check_has_effect(checkpoint: Checkpoint, config: DictConfig) -> None:
    """Raise ValueError for a setting that a single-person network on annotated people does not have."""
    groups = [group for group in TEST_TIME_GROUPS if group != "decode"]
    changed = [
        group
        for group in groups
        if OmegaConf.to_container(config[group], resolve=True) != checkpoint.config.get(group)
    ]
    if "_target_" not in config.second_stage or config.second_stage.get("checkpoint") is not None:
        changed.append("second_stage")
    if changed:
        raise ValueError(
            f"{checkpoint.path}: a single-person network is evaluated on annotated people, where other "
            f"settings of {', '.join(changed)} have no effect; remove them, or set checkpoint to a bottom-up "
            f"network and second_stage=crops second_stage.checkpoint={checkpoint.path}"
        )


def _of_annotated_people(
    step: Callable[..., list[Poses]], source: Source, batch_size: int, workers: int
) -> Iterator[tuple[int, int, Poses | Exception]]:
    """Index, id, and poses or error of each image, from the crops of its annotated people."""
    images = read_all(source, batch_size=batch_size, workers=workers)
    console = Console(stderr=True)
    for index, labelled in enumerate(track(images, "finding keypoints", console=console, total=len(source))):
        if isinstance(labelled, Exception):
            yield index, 0, labelled
            continue
        try:
            people = annotated_poses(labelled.annotations, source.skeleton)
            outcome: Poses | Exception = step([labelled.image], [people], [labelled.image_id])[0]
        except Exception as error:  # as for a bottom-up network, one image does not end the run
            outcome = error
        yield index, labelled.image_id, outcome


def outcomes(
    predictor: Predictor, source: Source, batch_size: int, workers: int
) -> Iterator[tuple[int, int, Poses | Exception]]:
    """Index, id, and poses or error of each image of a source, once they are known.

    The id is 0 if the image cannot be read.
    """
    ids: list[int] = []

    def read() -> Iterator[Image | Exception]:
        for labelled in read_all(source, batch_size=batch_size, workers=workers):
            ids.append(0 if isinstance(labelled, Exception) else labelled.image_id)
            yield labelled if isinstance(labelled, Exception) else labelled.image

    found = predictor.pipeline.as_found(predictor.network, read(), predictor.device)
    for index, outcome in track(found, "finding people", console=Console(stderr=True), total=len(source)):
        yield index, ids[index], outcome


def read_all(source: Source, *, batch_size: int, workers: int) -> Iterator[LabelledImage | Exception]:
    """All images of a source, in order, or the errors in reading them.

    After an error in a loader, or the end of one of its workers, images of that batch are read one by one.
    """
    done = 0
    while done < len(source):
        indices = range(done, len(source))
        try:
            for batch in validation_loader(source, batch_size=batch_size, workers=workers, indices=indices):
                done += len(batch)
                yield from batch
        except Exception:  # the error is found again
            for index in indices[done - indices.start :][:batch_size]:
                done += 1
                try:
                    image: LabelledImage | Exception = source[index]
                except Exception as error:
                    image = error
                yield image


def _draw_page(path: Path, source: Source, count: int, poses: Mapping[int, Poses]) -> list[str]:
    """Write a page of pictures of images spread over a source; returns the problem if that fails."""
    indices = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int).tolist()
    try:
        write_image(path, prediction_page(source, indices, poses))
    except Exception as error:  # metrics are worth more than pictures
        return [str(located(error, str(path)))]
    return []


def compared(ap: float, config: DictConfig, checkpoint: Checkpoint, *, images: int) -> dict[str, Any]:
    """The AP that the checkpoint's experiment expects, and whether ``ap`` is within its tolerance.

    Empty if none is expected, or if images, protocol or test-time settings differ from the experiment's.
    """
    expected = checkpoint.config.get("expected")
    if not expected or second_stage_files(config):
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
