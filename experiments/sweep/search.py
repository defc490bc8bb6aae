"""Search for test-time settings by Optuna on some images, to be evaluated on others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file

from swahr.choices import check_setting
from swahr.data import Source
from swahr.files import unwritable_reported, write_json
from swahr.geometry import Affine
from swahr.provenance import provenance
from swahr.structures import DenseMaps, Poses
from sweep.passes import Pass, checked, components, poses_in, prepared
from sweep.settings import AFTER_THE_NETWORK, Changes, Setting, setting_of
from sweep.tables import Store

_SEARCHABLE = tuple(group for group in AFTER_THE_NETWORK if group != "evaluation")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to search, and where to evaluate what was found.

    Args:
        space: by key of `swahr evaluate` a range of numbers, ``[low, high]``, or ``{choices: [...]}``.
        report: changes of the data that select the images on which the best setting is evaluated.
        trials: number of settings that are tried.
        metric: the metric to be maximised.
        seed: of the sampler.
    """

    space: Mapping[str, Any]
    report: Changes
    trials: int = 50
    metric: str = "AP"
    seed: int = 0

    def __post_init__(self) -> None:
        check_setting("search.trials", self.trials, int)
        if self.trials < 1 or not self.space or not self.report:
            raise ValueError("search: expected at least one trial, and entries in space and report")
        if others := [key for key in self.report if key.partition(".")[0] != "data"]:
            raise ValueError(f"search.report: expected keys of data, got {', '.join(others)}; use common")
        for key, values in self.space.items():
            if key.lstrip("+").partition(".")[0] not in _SEARCHABLE:
                raise ValueError(
                    f"search.space.{key}: expected a key of {', '.join(_SEARCHABLE)}, whose changes need no "
                    "pass over the network; use grid for others"
                )
            if not (_is_range(values) or _choices(values)):
                raise ValueError(
                    f"search.space.{key}: expected [low, high] with low below high, or {{choices: [...]}}, "
                    f"got {values!r}"
                )


def search_of(values: Mapping[str, Any], seed: int) -> Search:
    """The search of a configuration; raises ValueError for missing and unknown keys."""
    known = {field.name for field in fields(Search)} - {"seed"}
    if set(values) - known or {"space", "report"} - set(values):
        raise ValueError(f"search: expected space, report, and trials and metric if needed, got {[*values]}")
    return Search(**values, seed=seed)


def found_settings(
    checkpoint: str, common: Changes, search: Search, folder: Path, store: Store
) -> list[Setting]:
    """The checkpoint's own setting and the best one found, both for the images of ``search.report``.

    All trials are written to ``search_*.json``.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the search and the report have images in common, or a trial failed.
    """
    base = setting_of(checkpoint, common, {})
    own = setting_of(checkpoint, {**common, **search.report}, {})
    searched, *reported = prepared([base, own])
    _check_disjoint(searched.source, (reported or [searched])[0].source)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix="maps_") as cache:
        cached = _CachedMaps(searched, Path(cache))
        trials = _trials(checkpoint, common, search, cached, store)
    best = max(trials, key=lambda trial: trial["objective"])["changes"]
    write_json(
        folder / f"search_{Path(checkpoint).stem}_{base.identity[:8]}.json",
        {
            "space": search.space,
            "objective": f"{search.metric} on the images searched on, from maps in half precision; no result",
            "best": best,
            "trials": trials,
            "stamp": provenance(seed=search.seed, files=base.files),
        },
    )
    return [own, setting_of(checkpoint, {**common, **search.report}, best)]


def _trials(
    checkpoint: str, common: Changes, search: Search, cached: _CachedMaps, store: Store
) -> list[dict[str, Any]]:
    """Changes and objective of each trial; those in the store are not computed again.

    Optuna's sampler depends on its seed and the earlier trials only, so that it repeats an earlier search.
    """
    optuna = _optuna()
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed))
    trials = []
    for _ in track(range(search.trials), "searching", console=Console(stderr=True)):
        trial = study.ask()
        changes = {key: _suggested(trial, key, values) for key, values in search.space.items()}
        setting = setting_of(checkpoint, common, changes)
        key = f"trial_{setting.identity}"
        if key not in store:
            store.add(key, {"metrics": cached.metrics(setting)})
        metrics = store[key]["metrics"]
        if search.metric not in metrics:
            raise ValueError(f"search.metric={search.metric}: expected one of {', '.join(metrics)}")
        study.tell(trial, metrics[search.metric])
        trials.append({"changes": changes, "objective": metrics[search.metric]})
    return trials


class _CachedMaps:
    """The maps of all images in half precision on disk, computed when they are first needed."""

    def __init__(self, one: Pass, folder: Path) -> None:
        self.one, self.folder = one, folder
        self.images: dict[int, tuple[int, tuple[Affine, ...]]] = {}

    def metrics(self, setting: Setting) -> dict[str, float]:
        """The metrics of a setting; raises ValueError, which names it, if it fails on an image."""
        if not self.images:
            self._fill()
        source = self.one.source
        pipeline, metrics_of = components(setting, self.one.facts, source)
        poses: dict[int, Poses] = {}
        for index, (image_id, frames) in self.images.items():
            fields = {name: maps.float() for name, maps in load_file(self._file(index)).items()}
            image = [source[index].image] if pipeline.steps else [_NO_IMAGE]
            (found,) = poses_in(pipeline, DenseMaps(fields, frames), image)
            try:
                poses[image_id] = checked(found, source.describe(index))
            except Exception as error:
                raise ValueError(f"{setting}: {error}") from error
        metrics: dict[str, float] = metrics_of(poses)
        return metrics

    def _fill(self) -> None:
        for index, image_id, maps in self.one.maps():
            half = {name: field.half().cpu().contiguous() for name, field in maps.fields.items()}
            with unwritable_reported(self._file(index)):
                save_file(half, self._file(index))
            self.images[index] = image_id, maps.map_from_image

    def _file(self, index: int) -> Path:
        return self.folder / f"{index}.safetensors"


_NO_IMAGE: Any = None  # steps alone look at images


def _suggested(trial: Any, key: str, values: Any) -> Any:
    if _is_range(values):
        return trial.suggest_float(key, *map(float, values))
    texts = [json.dumps(choice) for choice in values["choices"]]  # Optuna's choices are plain values
    return json.loads(trial.suggest_categorical(key, texts))


def _is_range(values: Any) -> bool:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    return numbers and len(values) == 2 and values[0] < values[1]


def _choices(values: Any) -> bool:
    return isinstance(values, dict) and list(values) == ["choices"] and bool(values["choices"])


def _check_disjoint(searched: Source, reported: Source) -> None:
    names = [
        {Path(source.describe(i)).resolve() for i in range(len(source))} for source in (searched, reported)
    ]
    if common := sorted(names[0] & names[1]):
        raise ValueError(
            f"search.report: expected other images than those searched on, got {len(common)} of the same, "
            f"such as {common[0]}; choose another split, as the best of many settings looks too good there"
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("search needs the package optuna: pip install 'swahr[sweeps]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
