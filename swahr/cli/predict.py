"""``swahr predict``."""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.cli.command import fresh_folder, report
from swahr.cli.inputs import expand_inputs
from swahr.draw import draw_poses
from swahr.evaluation import poses_as_dataset
from swahr.files import write_json
from swahr.images import read_image, write_image
from swahr.pipeline import Image
from swahr.predictor import RUN_SETTINGS, Predictor
from swahr.provenance import provenance
from swahr.structures import Poses


def predict(config: DictConfig) -> None:
    """Write the poses in ``config.inputs`` to ``poses.json`` and pictures in ``config.output``.

    Unreadable files are skipped. A run that is interrupted or fails writes ``poses.partial.json``.

    Raises:
        ValueError: files were skipped; the results of all others are complete.
    """
    files = expand_inputs(config.inputs)
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust or ())
    predictor = Predictor.with_settings(checkpoint, config, **{name: config[name] for name in RUN_SETTINGS})
    folder = fresh_folder(config.output)
    found: dict[Path, tuple[tuple[int, int], Poses]] = {}
    waiting: deque[tuple[Path, Image]] = deque()
    errors: list[str] = []
    pictures = _pictures(folder / "pictures", files)
    try:
        for poses in predictor.stream(_read(files, waiting, errors)):
            (file, image), kept = waiting.popleft(), poses.select(poses.score >= config.min_score)
            found[file] = (image.shape[:2], kept)
            if config.draw:
                write_image(pictures[file], draw_poses(image, kept))
    except BaseException:  # also Ctrl-C
        write_json(folder / "poses.partial.json", _dataset(found, checkpoint))
        raise
    write_json(folder / "poses.json", _dataset(found, checkpoint))
    if errors:
        summary = f"{len(errors)} of {len(files)} files skipped; results of the others are in {folder}"
        raise ValueError("\n".join([summary, *errors]))
    report({"output": str(folder), "images": len(found), "people": sum(len(p) for _, p in found.values())})


def _read(files: list[Path], waiting: deque[tuple[Path, Image]], errors: list[str]) -> Iterator[Image]:
    """The files' images, which are also appended to ``waiting``, to be drawn on."""
    for file in track(files, "finding people", console=Console(stderr=True)):
        try:
            image = read_image(file)
        except (OSError, ValueError) as error:
            errors.append(str(error))
            continue
        waiting.append((file, image))
        yield image


def _pictures(folder: Path, files: list[Path]) -> dict[Path, Path]:
    """The picture of each file; numbers distinguish files of the same name in several folders."""
    paths: dict[Path, Path] = {}
    taken: set[Path] = set()
    for file in files:
        names = itertools.chain([file.stem], (f"{file.stem}_{number}" for number in itertools.count(2)))
        candidates = (folder / f"{name}.jpg" for name in names)
        paths[file] = next(path for path in candidates if path not in taken)
        taken.add(paths[file])
    return paths


def _dataset(found: Mapping[Path, tuple[tuple[int, int], Poses]], checkpoint: Checkpoint) -> dict[str, Any]:
    images = [(str(file), size, poses) for file, (size, poses) in found.items()]
    stamp = provenance(seed=None, files=[checkpoint.path])
    return {"info": stamp, **poses_as_dataset(images, checkpoint.skeleton)}
