"""Reading the ``key=value`` arguments before Hydra does, to say more clearly what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

Compose = Callable[[list[str]], DictConfig]
"""Overrides to a command's configuration."""

_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
_UNKNOWN_OPTION = re.compile(
    r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']+':\n((?:\t.+\n?)+)"
)
_UNKNOWN_FILE = "Config search path"
_WITHOUT_DATA = ("convert", "show")  # commands that need no data, or not always


def parse_overrides(arguments: Iterable[str]) -> list[Override]:
    """Parse every argument that is not a flag.

    Raises:
        ValueError: one is not ``key=value`` as Hydra writes it.
    """
    parsed = []
    for argument in arguments:
        if argument.startswith("-"):
            continue
        try:
            parsed.append(OverridesParser.create().parse_override(argument))
        except HydraException as error:
            raise ValueError(
                f"cannot read '{argument}' ({str(error).splitlines()[0]}); expected key=value, where a value "
                "with any of {}[](),=:' or spaces in it stands in quotes: \"key='a value'\""
            ) from error
    return parsed


def single_runs(overrides: Iterable[Override]) -> Iterator[list[str]]:
    """Overrides of single runs that between them take every choice of a sweep.

    Of a range only the first value is taken, and what a sweeper decides later is left out.
    """
    values = [(override, _values(override)) for override in overrides]
    for i in range(max((len(choices) for _, choices in values), default=1)):
        yield [choices[min(i, len(choices) - 1)] for _, choices in values if choices]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        return []
    key = override.get_key_element()
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return values if isinstance(override.value(), ChoiceSweep) else values[:1]


def compose_checked(name: str, overrides: list[str], compose: Compose) -> DictConfig:
    """Compose, and say what is near when an override fits nothing.

    Raises:
        ValueError: an override names no key or option, or a key that has no value was given none.
    """
    try:
        config = compose(overrides)
    except HydraException as error:
        raise ValueError(_explained(name, overrides, compose, str(error))) from error
    missing = [
        key
        for key, value in _entries(config)
        if value == "???" and not (key.startswith("data.") and name in _WITHOUT_DATA)
    ]
    if missing:
        raise ValueError(f"values are needed for {', '.join(missing)}: add {missing[0]}=…")
    return config


def _explained(name: str, overrides: list[str], compose: Compose, message: str) -> str:
    if match := _UNKNOWN_OPTION.search(message):
        group, option, listed = match.groups()
        options = listed.split()
        return (
            f"there is no {group}={option}{_did_you_mean(f'{group}={n}' for n in _close(option, options))}; "
            f"the options are {', '.join(options)}"
        )
    if match := _UNKNOWN_KEY.search(message):
        key = match[1]
        others = [override for override in overrides if override.partition("=")[0] != key]
        near = _did_you_mean(_nearest(key, [known for known, _ in _known(others, compose)]))
        return f"there is no key '{key}'{near}; `swahr {name} --help` lists the keys"
    return message.partition(_UNKNOWN_FILE)[0].strip()


def _known(overrides: list[str], compose: Compose) -> list[tuple[str, Any]]:
    """The keys there are; those of the defaults if the other overrides are wrong too."""
    try:
        return list(_entries(compose(overrides)))
    except HydraException:
        return list(_entries(compose([])))


def _entries(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """All dotted keys with their values, not resolved."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{prefix}{key}", value
                yield from walk(value, f"{prefix}{key}.")

    return walk(OmegaConf.to_container(config, resolve=False), "")


def _nearest(key: str, known: list[str]) -> list[str]:
    """Keys that end like this one; or else that look like it; or whose end looks like its end."""
    ends = {other: other.rpartition(".")[2] for other in known}
    end = key.rpartition(".")[2]
    same = [other for other in known if ends[other] == end]
    close_ends = _close(end, set(ends.values()), cutoff=0.8)
    alike_ends = [other for other in known if ends[other] in close_ends]
    return (same or _close(key, known, cutoff=0.85) or alike_ends)[:3]


def _close(word: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    return difflib.get_close_matches(word, list(known), n=3, cutoff=cutoff)


def _did_you_mean(words: Iterable[str]) -> str:
    near = list(words)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
