"""Evaluates checkpoints in many test-time settings, with one pass over the network where they share its maps.

A setting is a configuration of `swahr evaluate`, and its metrics equal those of that command. Settings that
share data, weights and aggregation are decoded from the same maps. Each finished setting is a file in
``rows/``; a rerun with the same ``output`` computes only what is missing. ``sweep.json``, ``sweep.csv`` and
``sweep.md`` have a row per setting.

With ``search``, Optuna chooses settings on the images of ``common``, and they are evaluated on other images.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from sweep.passes import Pass, prepared
from sweep.search import found_settings, search_of
from sweep.settings import Changes, Setting, grid_points, listed, setting_of
from sweep.tables import Row, Store, write_tables

from swahr.cli.command import report, run_command
from swahr.cli.problems import raise_problems
from swahr.provenance import data_stamp, provenance

_log = logging.getLogger(__name__)


def sweep_evaluation(config: DictConfig) -> list[Row]:
    """Run a sweep and return its rows.

    Raises:
        ValueError: the configuration is wrong, or settings failed, which are in the tables as well.
    """
    sweep = Sweep(config)
    try:
        sweep.run()
    except KeyboardInterrupt:
        _log.warning("interrupted; a run with output=%s continues", sweep.folder)
        raise SystemExit(130) from None
    rows = sweep.rows()
    failed = [f"{row['checkpoint']} {row['changes']}: {row['error']}" for row in rows if "error" in row]
    raise_problems(failed, summary=f"{len(failed)} of {len(rows)} settings failed", folder=sweep.folder)
    report({"output": str(sweep.folder), "rows": len(rows), "AP": [row["metrics"]["AP"] for row in rows]})
    return rows


class Sweep:
    """The settings of a sweep and what is known about them.

    Args:
        config: ``conf/sweep_evaluation.yaml`` with overrides.
    """

    def __init__(self, config: DictConfig) -> None:
        values: Any = OmegaConf.to_container(config, resolve=False)
        for key in ("common", "grid", "search"):
            if not isinstance(values[key] or {}, dict):
                raise ValueError(  # noqa: TRY004 - the setting is wrong, not a caller's type
                    f"{key}: expected a mapping such as {{decode: dark}}, got {values[key]!r}"
                )
        given = values["checkpoints"]
        self.checkpoints: list[str] = list(dict.fromkeys([given] if isinstance(given, str) else given))
        if not self.checkpoints:
            raise ValueError("checkpoints=[]: expected at least one file")
        self.common: Changes = values["common"] or {}
        self.points = _points(values)
        self.search = search_of(values["search"], config.seed) if values["search"] else None
        self.folder = Path(str(config.output))
        self.store = Store(self.folder / "rows")
        self.settings: list[Setting] = []
        self.errors: dict[str, str] = {}

    def run(self) -> None:
        """Compute what is missing; the tables are rewritten after every pass."""
        if self.search is None:
            self._compute(
                [setting_of(file, self.common, own) for file in self.checkpoints for own in self.points]
            )
            return
        for file in self.checkpoints:
            self._compute(found_settings(file, self.common, self.search, self.folder, self.store))

    def rows(self) -> list[Row]:
        """The rows of all settings that are finished or failed."""
        return [
            self._row(each) for each in self.settings if each.identity in self.store or self._failed(each)
        ]

    def _compute(self, settings: Sequence[Setting]) -> None:
        self.settings += settings
        for checkpoint in dict.fromkeys(setting.checkpoint for setting in settings):
            own = [setting for setting in settings if setting.checkpoint == checkpoint]
            missing = {each.identity: each for each in own if each.identity not in self.store}
            passes = prepared(list(missing.values())) if missing else []
            for number, one in enumerate(passes, start=1):
                _log.info("pass %d of %d: %d settings", number, len(passes), len(one.settings))
                try:
                    self._finish(one)
                except (OSError, RuntimeError, ValueError) as error:  # of the images or the network
                    unfinished = [identity for identity in one.settings if identity not in self.store]
                    self.errors |= dict.fromkeys(unfinished, str(error))
                self._write()
        self._write()

    def _finish(self, one: Pass) -> None:
        for setting, outcome in one.run():
            if isinstance(outcome, Exception):
                self.errors[setting.identity] = str(outcome)
                continue
            stamp = provenance(seed=None, files=setting.files) | data_stamp(val=one.source)
            row = {"metrics": outcome, "images": len(one.source), "stamp": stamp}
            self.store.add(setting.identity, row)

    def _failed(self, setting: Setting) -> bool:
        return setting.identity in self.errors

    def _row(self, setting: Setting) -> Row:
        names = Counter(Path(file).name for file in self.checkpoints)
        own = Path(setting.checkpoint).name
        row = {"checkpoint": own if names[own] == 1 else setting.checkpoint, "changes": setting.changes}
        if self._failed(setting):
            return row | {"error": self.errors[setting.identity]}
        return row | self.store[setting.identity]

    def _write(self) -> None:
        if rows := self.rows():
            files = sorted({file for setting in self.settings for file in setting.files})
            write_tables(self.folder, rows, provenance(seed=None, files=files))


def _points(values: dict[str, Any]) -> list[Changes]:
    """The changes of every setting; raises ValueError unless there are some, or else a search."""
    grid, settings = values["grid"], values["settings"]
    if bool(values["search"]) == bool(grid or settings):
        raise ValueError(
            "expected grid={decode: [quarter, dark]}, settings=[{decode: dark}] or both, or instead search; "
            f"got {'search as well' if values['search'] else 'none of them'}"
        )
    return [*(grid_points(grid) if grid else []), *listed(settings or [])]


if __name__ == "__main__":
    run_command("sweep_evaluation", sweep_evaluation, resumes=True)
