"""The runs of the ablation, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from swahr.cli.command import compose_config
from swahr.cli.overrides import compose_checked
from swahr.files import read_json
from swahr.migration import renamed

Result = Mapping[str, Any]
"""The contents of a finished run's file."""
_OF_ONE_MACHINE = ("output", "ckpt")
_DATA = "."
"""In place of ``data_root`` where a configuration is recorded."""
_FIRST = "first.safetensors"
"""Likewise of ``first``, whose hash is in the stamp."""


@dataclass(frozen=True)
class Run:
    """A training and its tests.

    Attributes:
        name: ``<variant>_<seed>``.
        variant: of the plan.
        seed: of the training.
        overrides: of `swahr train`.
        tests: settings of `swahr evaluate` by test set.
        recorded: overrides and configuration without folders; equal on every machine.
        folder: its checkpoints and detections.
        result: the file of the finished run.
    """

    name: str
    variant: str
    seed: int
    overrides: tuple[str, ...]
    tests: Mapping[str, Mapping[str, Any]]
    recorded: Mapping[str, Any]
    folder: Path
    result: Path


def runs_of(config: DictConfig) -> list[Run]:
    """All runs, in the order of seeds.

    Raises:
        ValueError: ``only``, ``against``, ``decoding`` or an override names what does not exist, or
            a file has a folder of this machine.
    """
    first = None if config.first is None else _FIRST
    here = resolved(config, {})
    anywhere = resolved(config, {"data_root": _DATA, "first": first})
    names = [variant["name"] for variant in here["variants"]]
    for key, known in (("against", names), ("decoding", list(here["decodings"]))):
        if here[key] not in known:
            raise ValueError(f"{key}={here[key]}: expected one of {', '.join(known)}")
    seeds = sorted({seed for variant in here["variants"] for seed in variant["seeds"]})
    pairs = [(variant, seed) for seed in seeds for variant in here["variants"] if seed in variant["seeds"]]
    runs = {f"{variant['name']}_{seed}": (variant, seed) for variant, seed in pairs}
    if unknown := [name for name in here["only"] or () if name not in runs]:
        raise ValueError(f"only: expected some of {', '.join(runs)}, got {', '.join(unknown)}; correct it")
    return [_run(*one, here, anywhere) for one in runs.values()]


def check_same(run: Run, file: Path, recorded: Mapping[str, Any]) -> None:
    """Raise ValueError, with the differences, if a run was recorded with another configuration."""
    before, now = renamed(recorded["config"]), renamed(run.recorded["config"])
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if keys:
        listed = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in keys[:5])
        more = f"; and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise ValueError(
            f"{file}: expected this configuration, but {len(keys)} settings differ ({listed}{more}); "
            "choose other folders results=… and output=…, or move the earlier run away"
        )


def finished(run: Run) -> dict[str, Any] | None:
    """The result of a run, or None; raises ValueError if it has another configuration."""
    if not run.result.is_file():
        return None
    result: dict[str, Any] = read_json(run.result)
    check_same(run, run.result, result)
    return result


def resolved(config: DictConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's values, with some changed, without tests and decodings that are null."""
    values: Any = OmegaConf.to_container(OmegaConf.merge(config, changes), resolve=True)
    for group in ("tests", "decodings"):
        values[group] = {name: one for name, one in values[group].items() if one is not None}
    return values


def _run(variant: Mapping[str, Any], seed: int, here: dict[str, Any], anywhere: dict[str, Any]) -> Run:
    name = f"{variant['name']}_{seed}"
    own = [*variant["overrides"], f"seed={seed}"]
    try:
        training = compose_checked("train", [*anywhere["train"], *own], partial(compose_config, "train"))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    plain: Any = {key: value for key, value in training.items_ex(resolve=False) if key not in _OF_ONE_MACHINE}
    composed = OmegaConf.to_container(OmegaConf.create(plain), resolve=True)
    keys = ("tests", "decodings", "decoding", "evaluations", "anatomy")
    testing = {key: anywhere[key] for key in keys if key in anywhere}
    recorded = dict(_leaves({"train": composed, "test": testing}))
    if folders := [f"{key}={value}" for key, value in recorded.items() if str(value).startswith("/")]:
        raise ValueError(
            f"{name}: {folders[0]}: expected no folder of this machine in a result; put the file below "
            "data_root and write ${data_root}/…"
        )
    return Run(
        name=name,
        variant=variant["name"],
        seed=seed,
        overrides=(*here["train"], *own),
        tests=here["tests"],
        recorded={
            "overrides": [*anywhere["train"], *own],
            "config": recorded,
        },
        folder=Path(here["output"], name),
        result=Path(here["results"], f"{name}.json"),
    )


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
