"""``swahr predict``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from swahr.build import second_stage_files
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.choices import check_setting
from swahr.cli.command import fresh_folder, report
from swahr.cli.inputs import expand_inputs, picture_names
from swahr.cli.problems import finite_people, raise_problems
from swahr.draw import draw_poses
from swahr.evaluation import poses_as_dataset
from swahr.files import Journal, write_json
from swahr.images import read_image, write_image
from swahr.pipeline import Image
from swahr.predictor import RUN_SETTINGS, Predictor, located
from swahr.provenance import provenance
from swahr.skeleton import Skeleton
from swahr.structures import Poses

Found = dict[Path, tuple[tuple[int, int], Poses]]
"""Size (h, w) and poses of each image."""


def predict(config: DictConfig) -> None:
    """Write the poses in ``config.inputs`` to ``poses.json`` and pictures in ``config.output``.

    Until all images are done, ``poses.partial.jsonl`` has the poses found so far.

    Raises:
        ValueError: images were skipped, or people or pictures left out; all other results are complete.
    """
    check_setting("min_score", config.min_score, float)
    check_setting("draw", config.draw, bool)
    files = expand_inputs(config.inputs)
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust or ())
    run = {name: config[name] for name in RUN_SETTINGS}
    predictor = Predictor.with_settings(checkpoint, config, trust=config.trust or (), **run)
    weights = [checkpoint.path, *second_stage_files(config)]
    folder = fresh_folder(config.output)
    pictures = picture_names(files) if config.draw else {}
    found: Found = {}
    skipped: dict[Path, str] = {}
    others: list[str] = []
    with Journal(folder / "poses.partial.jsonl") as journal:
        for file, image, poses in _outcomes(predictor, files):
            if isinstance(poses, Exception):
                skipped[file] = str(located(poses, str(file)))
                continue
            valid, problems = finite_people(poses, str(file))
            kept = valid.select(valid.score >= config.min_score)
            found[file] = (image.shape[:2], kept)
            journal.append(_line(file, found, checkpoint))
            others += problems
            if config.draw:
                others += _draw(folder / "pictures" / f"{pictures[file]}.jpg", image, kept)
        found = {file: found[file] for file in files if file in found}
        write_json(folder / "poses.json", _dataset(found, checkpoint.skeleton, weights))
        journal.remove()
    summary = f"{len(skipped)} of {len(files)} files skipped, {len(others)} other problems"
    raise_problems(
        [*(skipped[file] for file in files if file in skipped), *others], summary=summary, folder=folder
    )
    report({"output": str(folder), "images": len(found), "people": sum(len(p) for _, p in found.values())})


def _outcomes(predictor: Predictor, files: list[Path]) -> Iterator[tuple[Path, Any, Poses | Exception]]:
    """Each file with its image and its poses, or with errors instead, once they are known."""
    waiting: dict[int, Image | Exception] = {}

    def read() -> Iterator[Image | Exception]:
        for i, file in enumerate(track(files, "finding people", console=Console(stderr=True))):
            try:
                image: Image | Exception = read_image(file)
            except Exception as error:
                image = error
            waiting[i] = image
            yield image

    for i, poses in predictor.pipeline.as_found(predictor.network, read(), predictor.device):
        yield files[i], waiting.pop(i), poses


def _draw(path: Path, image: Image, poses: Poses) -> list[str]:
    """Write a picture of the poses; returns the problem if that fails."""
    try:
        write_image(path, draw_poses(image, poses))
    except Exception as error:  # poses are worth more than a picture of them
        return [str(located(error, str(path)))]
    return []


def _line(file: Path, found: Found, checkpoint: Checkpoint) -> dict[str, Any]:
    """One image of the data set in ``poses.json``, for the journal."""
    size, poses = found[file]
    content = poses_as_dataset([(str(file), size, poses)], checkpoint.skeleton)
    image, people = content["images"][0] | {"id": len(found)}, content["annotations"]
    return {"image": image, "annotations": [person | {"image_id": len(found)} for person in people]}


def _dataset(found: Found, skeleton: Skeleton, weights: Sequence[Path]) -> dict[str, Any]:
    images = [(str(file), size, poses) for file, (size, poses) in found.items()]
    stamp = provenance(seed=None, files=weights)
    return {"info": stamp, **poses_as_dataset(images, skeleton)}
