"""Compares decoding variants on the same disturbed maps.

Maps of annotated people, disturbed by a noise model (`noise.NoiseModel`), are merged and decoded in every
variant of ``conf/decoding_study.yaml`` and evaluated by the data set's protocol. No image file is read.

``study.csv`` has a row per data set and variant, and ``crowds.csv`` the number of people that grouping
finds in growing crowds. ``tables.md`` and ``study.png`` show both.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from crowd_growth import crowd_growth
from noise import NoiseModel
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from scores import score
from stamped import write_csv
from study_page import draw_study, markdown
from variants import Nodes, Outcome, Study, Variant

from swahr.cli.command import fresh_folder, report, run_command
from swahr.images import write_image
from swahr.provenance import provenance

DATASETS = ("coco", "crowdpose")
_study: Study  # of a worker process


def decoding_study(config: DictConfig) -> list[dict[str, Any]]:
    """Run the study and return the rows of ``study.csv``.

    Raises:
        ValueError: no annotation file is given.
    """
    files = {name: str(config[name]) for name in DATASETS if config[name] is not None}
    if not files:
        raise ValueError(
            "no annotations: expected coco=FILE, crowdpose=FILE or both; their images are not needed"
        )
    folder = fresh_folder(config.output)
    noise, variants, nodes = noise_of(config), variants_of(config), nodes_of(config)
    rows: list[dict[str, Any]] = []
    growth: list[dict[str, Any]] = []
    for dataset, file in files.items():
        make = partial(Study, file, variants, nodes, noise, config.seed, config.limit)
        study = make()
        outcomes = run(study, make, config.processes, f"decoding {dataset}")
        rows += score(study, outcomes, dataset, config.folds)
        rules = {name: rule for name, (_, rule) in study.grouping.items()}
        grown = crowd_growth(study.crowds, rules, noise, seed=config.seed, **config.crowds)
        growth += [{"dataset": dataset, **row} for row in grown]
    stamp = provenance(seed=config.seed, files=files.values()) | {
        "noise": OmegaConf.to_container(config.noise)
    }
    write_csv(folder / "study.csv", rows, stamp)
    write_csv(folder / "crowds.csv", growth, stamp)
    (folder / "tables.md").write_text(markdown(rows, growth, stamp), encoding="utf-8")
    write_image(
        folder / "study.png", draw_study(rows, growth, footer=f"commit {stamp['commit']} seed {config.seed}")
    )
    report({f"{row['dataset']} {row['variant']}": round(row["AP"], 4) for row in rows})
    return rows


def noise_of(config: DictConfig) -> NoiseModel:
    """The noise model of the configuration."""
    values: Any = OmegaConf.to_container(config.noise)
    return NoiseModel(**values | {"height": tuple(values["height"])})


def nodes_of(config: DictConfig) -> Nodes:
    """The components that variants choose from."""
    values: Any = OmegaConf.to_container(config.choices, resolve=True)
    return Nodes(**values)


def variants_of(config: DictConfig) -> list[Variant]:
    """The variants, each completed by ``base``."""
    base: Any = OmegaConf.to_container(config.base)
    changes: Any = OmegaConf.to_container(config.variants)
    merged = {name: base | change for name, change in changes.items()}
    return [
        Variant(name=name, **values | {"strides": tuple(values["strides"])})
        for name, values in merged.items()
    ]


def run(study: Study, make: partial[Study], processes: int, title: str) -> Sequence[dict[str, Outcome]]:
    """The outcomes of every image, computed by processes of one thread each."""
    images = range(len(study.crowds))
    console = Console(stderr=True)
    if processes == 1:
        return [study(i) for i in track(images, title, console=console)]
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(make,)) as pool:
        return list(track(pool.map(_one, images, chunksize=16), title, len(images), console=console))


def _start(make: partial[Study]) -> None:
    global _study
    torch.set_num_threads(1)
    _study = make()


def _one(index: int) -> dict[str, Outcome]:
    return _study(index)


if __name__ == "__main__":
    run_command("decoding_study", decoding_study)
