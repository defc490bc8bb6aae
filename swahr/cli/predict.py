"""``swahr predict``."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.cli.command import fresh_folder, report, run_command, write_json
from swahr.cli.inputs import expand_inputs, inputs_as_override
from swahr.data import read_image
from swahr.draw import draw_poses, write_image
from swahr.evaluation import poses_as_dataset
from swahr.pipeline import Image
from swahr.predictor import RUN_SETTINGS, Predictor
from swahr.stamp import make_stamp
from swahr.structures import Poses


def predict(config: DictConfig) -> None:
    """Find the people in ``config.inputs``; write ``poses.json`` and drawn pictures to ``config.output``.

    Files that cannot be read are passed over. Of an interrupted run what was found is in
    ``poses.partial.json``.

    Raises:
        ValueError: some files could not be read; all others are done.
    """
    files = expand_inputs(config.inputs)
    checkpoint = load_checkpoint(config.checkpoint)
    predictor = Predictor.with_settings(checkpoint, config, **{name: config[name] for name in RUN_SETTINGS})
    folder = fresh_folder(config.output)
    found: dict[Path, tuple[tuple[int, int], Poses]] = {}
    waiting: deque[tuple[Path, Image]] = deque()
    errors: list[str] = []
    pictures = _pictures(folder / "pictures", files)
    try:
        for poses in predictor.stream(_read(files, waiting, errors)):
            (file, image), kept = waiting.popleft(), _above(poses, config.min_score)
            found[file] = (image.shape[:2], kept)
            if config.draw:
                write_image(pictures[file], draw_poses(image, kept))
    except KeyboardInterrupt:
        write_json(folder / "poses.partial.json", _dataset(found, checkpoint))
        raise
    write_json(folder / "poses.json", _dataset(found, checkpoint))
    if errors:
        summary = f"{len(errors)} of {len(files)} files passed over, the others are in {folder}"
        raise ValueError("\n".join([summary, *errors]))
    report({"output": str(folder), "images": len(found), "people": sum(len(p) for _, p in found.values())})


def _read(files: list[Path], waiting: deque[tuple[Path, Image]], errors: list[str]) -> Iterator[Image]:
    """The files' images, which also wait for their poses, to be drawn upon."""
    for file in track(files, "finding people", console=Console(stderr=True)):
        try:
            image = read_image(file)
        except (OSError, ValueError) as error:
            errors.append(str(error))
            continue
        waiting.append((file, image))
        yield image


def _above(poses: Poses, min_score: float) -> Poses:
    keep = poses.score >= min_score
    fields = {name: getattr(poses, name)[keep] for name in ("keypoints", "scores", "score", "present")}
    return replace(poses, **fields)


def _pictures(folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Each file's drawn picture; files of one name, from several folders, are told apart by number."""
    paths: dict[Path, Path] = {}
    taken: set[str] = set()
    for file in files:
        names = itertools.chain([file.stem], (f"{file.stem}_{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        paths[file] = folder / f"{name}.jpg"
    return paths


def _dataset(found: Mapping[Path, tuple[tuple[int, int], Poses]], checkpoint: Checkpoint) -> dict[str, Any]:
    images = [(str(file), size, poses) for file, (size, poses) in found.items()]
    stamp = make_stamp(seed=None, files=[checkpoint.path])
    return {"info": stamp, **poses_as_dataset(images, checkpoint.skeleton)}


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = inputs_as_override(sys.argv[1:])
    run_command("predict", predict)
