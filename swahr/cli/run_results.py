"""Runs of `swahr train` and `swahr evaluate`: their results, or why they have none."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from swahr.cli.command import FAILED
from swahr.cli.overrides import parse_overrides
from swahr.files import read_json
from swahr.migration import renamed

_RESULTS = {"train": "result.json", "evaluate": "metrics.json"}
_OWN = dict.fromkeys(("ckpt", "output", "seed"))  # settings in which runs of one row may differ
_CHECKPOINTS = ("best.safetensors", "last.ckpt", "interrupted.ckpt")


@dataclass(frozen=True)
class Settings:
    """The settings of a run, except its output, its seed and the checkpoint that it resumed.

    Attributes:
        values: the configuration by dotted key.
        choices: options by group.
        overridden: keys and groups on the command line.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    overridden: tuple[str, ...] = ()

    def shown(self, key: str) -> str:
        """The value of a key or group as text, or its class; empty if there is none."""
        within = {name: value for name, value in self.values.items() if name.startswith(f"{key}.")}
        value = self.choices.get(key, self.values.get(key, within.get(f"{key}._target_", within or "")))
        return value if isinstance(value, str) else json.dumps(value, default=str)

    def tested_with(self, test: "Settings") -> "Settings":
        """Settings of training and of a test; where both have a key, ``trained.`` begins that of training."""
        name = Path(str(test.values.get("checkpoint"))).name
        values = {key: value for key, value in test.values.items() if key != "checkpoint"}
        values |= {"checkpoint": name} if name in _CHECKPOINTS else {}
        chosen = {group: option for group, option in test.choices.items() if option != "from_checkpoint"}

        def beside(tested: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
            return {**{f"trained.{key}" if key in tested else key: trained[key] for key in trained}, **tested}

        overridden = (*test.overridden, *self.overridden, *(f"trained.{key}" for key in self.overridden))
        return Settings(beside(values, self.values), beside(chosen, self.choices), overridden)


@dataclass(frozen=True)
class RunResult:
    """One run.

    Attributes:
        path: its result file, or its folder if it has none.
        settings: of the run; of an evaluation, beside those of the training.
        seed: of the training.
        metrics: all numbers in the result, except AP and AR that are undefined (-1).
        data: name, size and checksum of the test data.
        commit: of the code.
        failure: why there is no result; None if there is one.
    """

    path: Path
    settings: Settings
    seed: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: str | None = None
    commit: str | None = None
    failure: str | None = None


def is_fraction(metric: str) -> bool:
    """Whether a metric is an average precision or recall."""
    return metric.startswith(("AP", "AR"))


def find_runs(paths: Iterable[Path]) -> list[RunResult]:
    """The runs in result files, runs' folders, and folders that contain some, each once.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: there is no run at a path, or a file is not a result.
    """
    found: dict[Path, RunResult] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: expected runs or a result file, but there is nothing; correct it"
            )
        runs = list(_in_folder(path)) if path.is_dir() else [_read_result(path)]
        if not runs:
            raise ValueError(
                f"{path}: expected runs of `swahr train` or `swahr evaluate`, found none; give a run's "
                "folder (its output=…), a folder of runs, or a result.json or metrics.json"
            )
        found |= {run.path.resolve(): run for run in runs}
    return list(found.values())


def _in_folder(top: Path) -> Iterator[RunResult]:
    folders = (folder for folder, *_ in os.walk(top))
    for folder in map(Path, sorted(folders, key=lambda name: re.sub(r"\d+", lambda n: n[0].zfill(9), name))):
        result = next((file for name in _RESULTS.values() if (file := folder / name).is_file()), None)
        files = all((folder / name).is_file() for name in ("config.yaml", "metrics.csv"))
        if result is None and not files and _hydra(folder).get("job", {}).get("name") not in _RESULTS:
            continue
        try:
            yield _unfinished(folder, _reason(folder)) if result is None else _read_result(result)
        except ValueError as error:  # a damaged file does not hide the other runs
            yield _unfinished(folder, str(error))


def _unfinished(folder: Path, reason: str) -> RunResult:
    return RunResult(folder, _recorded(folder), _config(folder).get("seed"), failure=reason)


def _reason(folder: Path) -> str:
    """Why a run has no result, as far as its log states it."""
    lines = [line for log in folder.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    stated = [line.removeprefix(FAILED) for line in lines if line.startswith(FAILED)]
    return stated[-1] if stated else "interrupted" if (folder / _CHECKPOINTS[-1]).exists() else "unfinished"


def _read_result(path: Path) -> RunResult:
    content = read_json(path)
    parts = content if isinstance(content, dict) else {}
    stamp, metrics = parts.get("stamp"), parts.get("metrics")
    if not isinstance(stamp, dict) or not isinstance(metrics, dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
            f"{path}: expected `metrics` and `stamp`, as in result.json of `swahr train` and metrics.json of "
            f"`swahr evaluate`, got {shortened(content)}; give such a file"
        )
    settings = _stamped(stamp) if "config" in stamp else _recorded(path.parent)
    data, seed, trained = _test_data(settings, parts, stamp), stamp.get("seed"), stamp.get("checkpoint", {})
    if "config" in trained:
        settings, seed = _stamped(trained).tested_with(settings), trained.get("seed", seed)
    return RunResult(path, settings, seed, _numbers({**parts, **metrics}), data, stamp.get("commit"))


def _numbers(parts: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in parts.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value >= 0 or not is_fraction(name)
    }


def _test_data(settings: Settings, parts: Mapping[str, Any], stamp: Mapping[str, Any]) -> str | None:
    """Annotation file, number of images and checksum; rendered crowds have the checksum of their settings."""
    start, sums = "data.module.val.", stamp.get("sha256", {})
    node = {key.removeprefix(start): value for key, value in settings.values.items() if key.startswith(start)}
    node = {key: Path(value).name if isinstance(value, str) else value for key, value in node.items()}
    node.pop("insist", None)  # does not change the images
    files = {file: sums[file] for file in sorted(sums) if ".json" in file}
    if not node and not files:
        return None
    name = node.get("annotations") or str(node.get("_target_", ", ".join(files))).rpartition("swahr.")[2]
    checksum = sums.get(name) or sha256(json.dumps([node, files]).encode()).hexdigest()
    return f"{name}, {parts.get('images', 'unknown')} images, checksum {checksum[:8]}"


def _stamped(stamp: Mapping[str, Any]) -> Settings:
    return _settings(OmegaConf.create(stamp["config"]), stamp.get("overrides", ()), stamp.get("choices", {}))


def _recorded(folder: Path) -> Settings:
    """The settings in a run's folder."""
    choices = _hydra(folder).get("runtime", {}).get("choices", {})
    return _settings(_config(folder), list(_yaml(folder / ".hydra/overrides.yaml")), choices)


def _hydra(folder: Path) -> Any:
    return _yaml(folder / ".hydra/hydra.yaml").get("hydra", {})


def _config(folder: Path) -> Any:
    own = folder / "config.yaml"
    return _yaml(own if own.is_file() else folder / ".hydra/config.yaml")


def _yaml(path: Path) -> Any:
    """The content of a YAML file; empty if it is missing or damaged."""
    try:
        return OmegaConf.load(path)
    except (OSError, ValueError, YAMLError):
        return OmegaConf.create()


def _settings(config: Any, overrides: Sequence[str], choices: Mapping[str, Any]) -> Settings:
    config = OmegaConf.merge(config, _OWN)
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:  # references to values that the run did not need
        plain = OmegaConf.to_container(config)
    values = {key: renamed(value) for key, value in _leaves(plain) if key not in _OWN}
    keys = [override.key_or_group for override in parse_overrides(list(overrides))]
    named = tuple(key for key in keys if key not in _OWN and not key.startswith("hydra"))
    return Settings(values, {str(group): option for group, option in choices.items()}, named)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
