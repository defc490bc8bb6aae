"""``swahr check``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from swahr.build import build_skeleton
from swahr.build_data import build_source
from swahr.cli.command import fresh_folder, report
from swahr.data import CocoSource
from swahr.draw import draw_annotations
from swahr.draw.page import contact_sheet
from swahr.draw.palette import Picture
from swahr.images import write_image


def check(config: DictConfig) -> None:
    """Report what is implausible in annotation files; the exit code is 1 if there are errors.

    Raises:
        ValueError: the configuration names no annotation file.
    """
    _require_files(config)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    folder = fresh_folder(config.output)
    found = {}
    for name in ("annotations",) if config.annotations else ("train", "val"):
        found[name] = _checked(name, config, folder)
        _print(console, found[name])
    report({"output": str(folder), **found})
    if any(one["errors"] for one in found.values()):
        sys.exit(1)


def _require_files(config: DictConfig) -> None:
    if config.annotations:
        return
    if OmegaConf.is_missing(config.data, "root"):
        raise ValueError("expected a data set: give data.root=PATH, or annotations=FILE images=PATH")
    if "annotations" not in config.data.module.train:
        raise ValueError("expected data with annotation files, got rendered ones; `swahr show` draws them")


def _checked(name: str, config: DictConfig, folder: Path) -> dict[str, Any]:
    """What was found in one set; an error in reading it must not hide what is in the other."""
    try:
        source = _source(name, config)
    except (OSError, ValueError, TypeError) as error:
        return {"summary": f"{name}: not readable", "errors": [str(error)], "warnings": []}
    found = {"summary": source.findings.summary(), **source.findings.to_dict()}
    if not config.annotations or config.images:
        missing = [path for path in map(source.describe, range(len(source))) if not Path(path).is_file()]
        found["missing_images"] = {"count": len(missing), "examples": missing[:3]}
        if missing:
            text = f"{len(missing)} of {len(source)} image files are missing ({', '.join(missing[:3])})"
            found["errors"].append(f"{text}: correct file_name or the images folder, or fetch the images")
        if config.pictures:
            _add_page(found, source, config, folder / f"{name}.png")
    return found


def _source(name: str, config: DictConfig) -> CocoSource:
    if config.annotations:
        skeleton = build_skeleton(config.data.skeleton)
        return CocoSource(config.annotations, config.images or "", skeleton, insist=True)
    source: CocoSource = build_source(config.data.module[name], config.data.skeleton, insist=True)
    return source


def _add_page(found: dict[str, Any], source: CocoSource, config: DictConfig, file: Path) -> None:
    """Draw suspicious images, and random ones beside them; images that cannot be read are errors."""
    images, captions = [], []
    for index, reason in _choice(source, config.pictures, config.seed):
        try:
            images.append(_drawn(source, index))
            captions.append(f"{Path(source.describe(index)).name}: {reason}")
        except FileNotFoundError:
            continue  # reported with the other missing files
        except (OSError, ValueError) as error:
            found["errors"].append(str(error))
    if images:
        found["page"] = str(write_image(file, contact_sheet(images, captions)))


def _choice(source: CocoSource, count: int, seed: int) -> Iterator[tuple[int, str]]:
    """Indices and reasons: suspicious images, at most two thirds, and random ones."""
    reasons: dict[int, str] = {}
    for index, reason in source.findings.suspicious:
        reasons[index] = f"{reasons[index]}; {reason}" if index in reasons else reason
    chosen = list(reasons.items())[: max(1, 2 * count // 3)]
    others = [index for index in range(len(source)) if index not in reasons]
    rest = np.random.default_rng(seed).permutation(others)[: count - len(chosen)].tolist()
    yield from chosen
    yield from ((int(index), "at random") for index in rest)


def _drawn(source: CocoSource, index: int) -> Picture:
    labelled = source[index]
    return draw_annotations(labelled.image, labelled.annotations, source.skeleton)


def _print(console: Console, found: dict[str, Any]) -> None:
    console.print(found["summary"], style="bold", markup=False)
    for kind, style in (("errors", "red"), ("warnings", "yellow")):
        for text in found[kind]:
            console.print(f"  {kind[:-1]}: {text}", style=style, markup=False)
    if not found["errors"] and not found["warnings"]:
        console.print("  nothing implausible", style="green")
