"""Checks of ``key=value`` arguments, with clearer messages than Hydra's."""

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

Compose = Callable[[list[str]], DictConfig]
"""Composes a command's configuration with some overrides."""

_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
_UNKNOWN_OPTION = re.compile(
    r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']+':\n((?:\t.+\n?)+)"
)
_WITHOUT_DATA = ("check", "convert", "show")  # commands for which data are optional


def parse_overrides(arguments: list[str]) -> list[Override]:
    """Parse ``key=value`` arguments.

    Raises:
        ValueError: the syntax of an argument is wrong.
    """
    try:
        return OverridesParser.create().parse_overrides(arguments)
    except OverrideParseException as error:
        raise ValueError(
            f"cannot read '{error.override}' ({str(error).splitlines()[0]}); expected key=value; values "
            "with spaces or any of {}[](),=: need quotes: \"key='a value'\""
        ) from error


def single_runs(overrides: Iterable[Override]) -> Iterator[list[str]]:
    """Overrides of single runs that together contain every choice of a sweep.

    Only the first value of a range is used; values that a sweeper chooses later are omitted.
    """
    values = [choices for override in overrides if (choices := _values(override))]
    for i in range(max(map(len, values), default=1)):
        yield [choices[min(i, len(choices) - 1)] for choices in values]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        return []
    values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return values if isinstance(override.value(), ChoiceSweep) else values[:1]


def compose_checked(name: str, overrides: list[str], compose: Compose) -> DictConfig:
    """Compose a command's configuration; errors suggest what the user may have meant.

    Raises:
        ValueError: an override names an unknown key or option, or a required value is missing.
    """
    try:
        config = compose(overrides)
    except HydraException as error:
        raise ValueError(_explained(name, overrides, compose, str(error))) from error
    missing = [key for key, value in _entries(config) if value == "???"]
    if name in _WITHOUT_DATA:
        missing = [key for key in missing if not key.startswith("data.")]
    if missing:
        raise ValueError(f"values are needed for {', '.join(missing)}: add {missing[0]}=…")
    return config


def _explained(name: str, overrides: list[str], compose: Compose, message: str) -> str:
    if match := _UNKNOWN_OPTION.search(message):
        group, option, listed = match.groups()
        near = _did_you_mean(f"{group}={other}" for other in get_close_matches(option, listed.split()))
        return f"there is no {group}={option}{near}; the options are {', '.join(listed.split())}"
    if match := _UNKNOWN_KEY.search(message):
        key = match[1]
        others = [override for override in overrides if override.partition("=")[0] != key]
        try:
            config = compose(others)
        except HydraException:  # there are further mistakes
            config = compose([])
        near = _did_you_mean(_nearest(key, [known for known, _ in _entries(config)]))
        return f"there is no key '{key}'{near}; `swahr {name} --help` lists the keys"
    return message.partition("Config search path")[0].strip()


def _entries(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """All dotted keys with their unresolved values."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{prefix}{key}", value
                yield from walk(value, f"{prefix}{key}.")

    return walk(OmegaConf.to_container(config, resolve=False), "")


def _nearest(key: str, known: Iterable[str]) -> list[str]:
    """At most three known keys that are similar to ``key`` as a whole or in their last part."""

    def similarity(other: str) -> float:
        pairs = ((key, other), (key.rpartition(".")[2], other.rpartition(".")[2]))
        return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)

    similar = {other: ratio for other in known if (ratio := similarity(other)) >= 0.85}
    return sorted(similar, key=lambda other: -similar[other])[:3]


def _did_you_mean(words: Iterable[str]) -> str:
    near = " or ".join(words)
    return f" (did you mean {near}?)" if near else ""
