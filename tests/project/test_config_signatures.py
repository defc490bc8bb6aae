"""Every node of conf/ with a ``_target_`` lists exactly its constructor's parameters, with fitting values."""

import importlib
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from swahr.build import RUNTIME_FACTS

CONF = Path(__file__).resolve().parents[2] / "conf"
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))
# YAML writes 1 for 1.0.
NUMERIC_TOWER = BeartypeConf(is_pep484_tower=True)


def is_complete(entry: Path) -> bool:
    """Whether all groups of a command come from files: some take theirs from a checkpoint when they run."""
    defaults = OmegaConf.to_container(OmegaConf.load(entry)).get("defaults", [])
    chosen = [
        f"{group}/{option}"
        for item in defaults
        if isinstance(item, dict)
        for group, option in item.items()
        if option
    ]
    return bool(chosen) and all((CONF / f"{choice}.yaml").is_file() for choice in chosen)


ENTRIES = sorted(path.stem for path in CONF.glob("*.yaml") if is_complete(path))


def nodes(tree: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All mappings with a ``_target_``, with their place."""
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield where, tree
        for key, value in tree.items():
            yield from nodes(value, f"{where}.{key}")
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from nodes(value, f"{where}[{i}]")


def resolve(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def is_left_open(value: Any) -> bool:
    """Interpolations, missing values, and whatever holds components of its own: their values come later."""
    if isinstance(value, dict):
        return "_target_" in value or any(is_left_open(item) for item in value.values())
    if isinstance(value, list):
        return any(is_left_open(item) for item in value)
    return isinstance(value, str) and ("${" in value or value == "???")


def as_tuples(value: Any) -> Any:
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def problems(where: str, node: dict[str, Any]) -> list[str]:
    """What is wrong with one node, in words."""
    target = node["_target_"]
    component = resolve(target)
    parameters = inspect.signature(component).parameters
    given = {str(key) for key in node} - {"_target_"}
    expected = set(parameters) - RUNTIME_FACTS.get(target, frozenset())
    found = [f"{where}: {target} has no parameter '{key}'" for key in sorted(given - set(parameters))]
    if target.startswith("swahr."):  # a library's defaults are its own affair
        found += [f"{where}: does not list '{key}' of {target}" for key in sorted(expected - given)]
        found += [
            f"{where}: lists '{key}', which build passes"
            for key in sorted(given - expected & set(parameters))
        ]
    constructor = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(constructor)
    return found + [
        f"{where}.{key}: expected {hints[key]}, got {node[key]!r}"
        for key in sorted(given & set(hints))
        if not is_left_open(node[key]) and not fits(node[key], hints[key])
    ]


def fits(value: Any, hint: Any) -> bool:
    return any(is_bearable(form, hint, conf=NUMERIC_TOWER) for form in (value, as_tuples(value)))


def all_problems(tree: Any, where: str) -> list[str]:
    return [problem for place, node in nodes(tree, where) for problem in problems(place, node)]


@pytest.mark.parametrize("file", FILES)
def test_every_file_fits_the_signatures_it_names(file: str) -> None:
    tree = OmegaConf.to_container(OmegaConf.load(CONF / file), resolve=False)
    assert all_problems(tree, file) == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_command_composes(entry: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed = OmegaConf.to_container(compose(entry), resolve=False)
    assert all_problems(composed, entry) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_still_fits(experiment: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed = OmegaConf.to_container(compose("train", [f"experiment={experiment}"]), resolve=False)
    assert all_problems(composed, experiment) == []


def test_runtime_facts_name_parameters_that_exist() -> None:
    stale = {
        target: facts - set(inspect.signature(resolve(target)).parameters)
        for target, facts in RUNTIME_FACTS.items()
    }
    assert {target: names for target, names in stale.items() if names} == {}


def test_the_check_sees_missing_unknown_and_misfitting_entries() -> None:
    source = {"_target_": "swahr.data.CocoSource", "annotations": 3, "images": "${root}", "frames": 1}
    found = all_problems({"data": [source]}, "x")
    assert [problem.partition(": ")[0] for problem in found] == ["x.data[0]"] * (len(found) - 1) + [
        "x.data[0].annotations"
    ]
    assert any("no parameter 'frames'" in problem for problem in found)
    assert any("does not list 'limit'" in problem for problem in found)
