"""The settings of a sweep: configurations of `swahr evaluate`, and which of them share the network's maps."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import swahr
from swahr.build import TEST_TIME_GROUPS
from swahr.build_data import annotation_files
from swahr.cli.command import compose_config
from swahr.cli.overrides import compose_checked
from swahr.predictor import RUN_SETTINGS
from swahr.provenance import provenance
from swahr.weights import located

AFTER_THE_NETWORK = ("grouping", "decode", "postprocess", "evaluation")
"""Groups that do not change the network's merged maps."""

Changes = Mapping[str, Any]
"""Values by the keys of `swahr evaluate`: ``{"decode": "quarter", "aggregate.flip": False}``."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One evaluation of a checkpoint.

    Attributes:
        checkpoint: its file.
        changes: what distinguishes the setting from others of the sweep.
        config: the configuration of `swahr evaluate`.
    """

    checkpoint: str
    changes: Changes
    config: DictConfig

    def __str__(self) -> str:
        return " ".join([Path(self.checkpoint).name, *map(_override, self.changes.items())])

    @property
    def files(self) -> list[str]:
        """The weights and annotations."""
        return [str(located(self.checkpoint)), *annotation_files([self.config.data.module.val])]

    @cached_property
    def identity(self) -> str:
        """A digest of all that determines the metrics: settings, weights, annotations, code, libraries."""
        return hashlib.sha256(_json([*map(_digest, self.files), _environment(), self._values])).hexdigest()[
            :20
        ]

    @cached_property
    def maps(self) -> str:
        """What determines the merged maps of all images; equal for settings that share them."""
        before = {key: value for key, value in self._values.items() if key not in AFTER_THE_NETWORK}
        return hashlib.sha256(_json([self.checkpoint, before])).hexdigest()

    @property
    def images(self) -> str:
        """What determines the images and their annotations."""
        return _json([self._values["val"], self._values["skeleton"]]).decode()

    @cached_property
    def _values(self) -> dict[str, Any]:
        plain: Any = OmegaConf.to_container(self.config, resolve=True)
        names = (*TEST_TIME_GROUPS, "evaluation", *RUN_SETTINGS, "batch_size")
        data = {"val": plain["data"]["module"]["val"], "skeleton": plain["data"]["skeleton"]}
        return {name: plain[name] for name in names} | data


def setting_of(checkpoint: str, common: Changes, changes: Changes) -> Setting:
    """Compose a setting; ``changes`` take precedence over ``common``.

    Raises:
        ValueError: a key or an option is unknown; the message names the setting.
    """
    if {"checkpoint", "model"} & {*common, *changes}:
        raise ValueError("expected no checkpoint in common, grid and settings; list them in checkpoints")
    overrides = [_override(item) for item in {"checkpoint": checkpoint, **common, **changes}.items()]
    try:
        config = compose_checked("evaluate", overrides, partial(compose_config, "evaluate"))
    except ValueError as error:
        raise ValueError(f"{' '.join(overrides)}: {error}") from error
    return Setting(checkpoint, changes, config)


def grid_points(grid: Mapping[str, Any]) -> list[Changes]:
    """The cartesian product of the values of every key; raises ValueError unless they are lists."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid.{key}: expected a list of values, got {values!r}; write [{values}]")
    return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]


def listed(settings: Sequence[Any]) -> list[Changes]:
    """An explicit list of settings; raises ValueError unless each is a mapping."""
    for i, changes in enumerate(settings):
        if not isinstance(changes, Mapping):
            raise ValueError(  # noqa: TRY004 - the setting is wrong, not a caller's type
                f"settings[{i}]: expected a mapping such as {{decode: quarter}}, got {changes!r}"
            )
    return list(settings)


def _override(item: tuple[str, Any]) -> str:
    return f"{item[0]}={json.dumps(item[1], ensure_ascii=False)}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


@cache
def _digest(file: str) -> str | None:
    """A file's SHA-256; None if it is missing, of which its reader has a better message."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else None


@cache
def _environment() -> list[Any]:
    """Device, libraries, and a digest of the package's source, which may have uncommitted changes."""
    files = sorted(Path(swahr.__file__).parent.rglob("*.py"))
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = provenance(seed=None)
    return [stamp["device"], stamp["libraries"], code]
