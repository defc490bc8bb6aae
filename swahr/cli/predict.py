"""``swahr predict``."""

from __future__ import annotations

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
    """Find the people in ``config.inputs``; write ``poses.json`` and drawn pictures to ``config.output``."""
    files = expand_inputs(config.inputs)
    checkpoint = load_checkpoint(config.checkpoint)
    predictor = Predictor.with_settings(checkpoint, config, **{name: config[name] for name in RUN_SETTINGS})
    folder = fresh_folder(config.output)
    found: dict[Path, tuple[tuple[int, int], Poses]] = {}
    waiting: deque[Image] = deque()
    progress = track(files, "finding people", console=Console(stderr=True))
    for file, poses in zip(progress, predictor.stream(_read(files, waiting)), strict=True):
        image, kept = waiting.popleft(), _above(poses, config.min_score)
        found[file] = (image.shape[:2], kept)
        if config.draw:
            write_image(_picture(folder, file, files), draw_poses(image, kept))
    write_json(folder / "poses.json", _dataset(found, checkpoint))
    report({"output": str(folder), "images": len(found), "people": sum(len(p) for _, p in found.values())})


def _read(files: list[Path], waiting: deque[Image]) -> Iterator[Image]:
    """The files' images, which also wait for their poses, to be drawn upon."""
    for file in files:
        waiting.append(read_image(file))
        yield waiting[-1]


def _above(poses: Poses, min_score: float) -> Poses:
    keep = poses.score >= min_score
    fields = {name: getattr(poses, name)[keep] for name in ("keypoints", "scores", "score", "present")}
    return replace(poses, **fields)


def _picture(folder: Path, file: Path, files: list[Path]) -> Path:
    """The drawn picture's path; files of one name from several folders are told apart by number."""
    same_name = [other for other in files if other.stem == file.stem]
    suffix = "" if len(same_name) == 1 else f"_{same_name.index(file) + 1}"
    return folder / "pictures" / f"{file.stem}{suffix}.jpg"


def _dataset(found: Mapping[Path, tuple[tuple[int, int], Poses]], checkpoint: Checkpoint) -> dict[str, Any]:
    images = [(str(file), size, poses) for file, (size, poses) in found.items()]
    stamp = make_stamp(seed=None, files=[checkpoint.path])
    return {"info": stamp, **poses_as_dataset(images, checkpoint.skeleton)}


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = inputs_as_override(sys.argv[1:])
    run_command("predict", predict)
