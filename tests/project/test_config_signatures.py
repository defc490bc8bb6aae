"""Every composed node fits its constructor: no unknown entry, none missing, values of the right types."""

import ast
import importlib
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from swahr.build import network_facts, skeleton_facts, target_facts
from swahr.skeleton import COCO

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))
OPTIONS = sorted(
    (path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name != "experiment"
)
# YAML writes 1 for 1.0.
NUMERIC_TOWER = BeartypeConf(is_pep484_tower=True)


def choices(entry: str) -> dict[str, str | None]:
    """The groups of a command with their default options."""
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / f"{entry}.yaml")).get("defaults", [])
    chosen = [item for item in defaults if isinstance(item, dict)]
    return {
        group.removeprefix("override ").partition("@")[0]: option
        for item in chosen
        for group, option in item.items()
    }


def is_complete(entry: str) -> bool:
    """Whether all groups of a command come from files: some take theirs from a checkpoint when they run."""
    chosen = [f"{group}/{option}" for group, option in choices(entry).items() if option]
    return bool(chosen) and all((CONF / f"{choice}.yaml").is_file() for choice in chosen)


ENTRIES = sorted(path.stem for path in CONF.glob("*.yaml") if is_complete(path.stem))
OTHER_ENTRIES = sorted({path.stem for path in CONF.glob("*.yaml")} - set(ENTRIES))
GROUPS = choices("train")


def passed_by_name() -> set[str]:
    """The names under which the package's own code passes values to what a node builds."""
    calls = [
        node
        for file in (ROOT / "swahr").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return {key.arg for call in calls if call.func.id == "instantiate" for key in call.keywords if key.arg}


TARGETS = "swahr.targets.TargetEncoder"
SHARED = {  # facts of the skeleton, the network and the targets; a node that lists one no longer follows it
    **skeleton_facts(COCO),
    **network_facts(SimpleNamespace(strides=(4, 2), size_multiple=32)),
    **target_facts({"sigma": 2.0, "alignment": "centre"}),
}
GIVEN = SHARED.keys() | passed_by_name()


def composed(entry: str, *overrides: str) -> Any:
    """The configuration of a command, interpolations left as they are."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return OmegaConf.to_container(compose(entry, list(overrides)), resolve=False)


def nodes(tree: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All mappings with a ``_target_``, with their paths."""
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
    given = {str(key) for key in node} - {"_target_", "_partial_"}
    found = [f"{where}: {target} has no parameter '{key}'" for key in sorted(given - set(parameters))]
    if target.startswith("swahr."):
        needed = {
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        }
        missing = needed - given - GIVEN if not node.get("_partial_") else set()
        found += [f"{where}: nobody gives '{key}' to {target}" for key in sorted(missing)]
        fixed = given & SHARED.keys() if target != TARGETS else set()
        found += [f"{where}: lists '{key}', which others must agree on" for key in sorted(fixed)]
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
    return [problem for path, node in nodes(tree, where) for problem in problems(path, node)]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_a_group_composes_and_fits(group: str, option: str) -> None:
    override = f"{group}={option}" if group in GROUPS else f"+{group}={option}"
    assert all_problems(composed("train", override), override) == []


@pytest.mark.parametrize("entry", OTHER_ENTRIES)
def test_every_other_command_fits_without_its_groups(entry: str) -> None:
    tree = OmegaConf.to_container(OmegaConf.load(CONF / f"{entry}.yaml"), resolve=False)
    assert all_problems(tree, entry) == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_command_composes(entry: str) -> None:
    assert all_problems(composed(entry), entry) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_still_fits(experiment: str) -> None:
    assert all_problems(composed("train", f"experiment={experiment}"), experiment) == []


@pytest.mark.parametrize(
    ("group", "option"),
    [("aggregate", "single_scale"), ("grouping", "gated"), ("decode", "dark"), ("targets", "unbiased"),
     ("evaluation", "coco")],
)  # fmt: skip
def test_constructors_have_the_defaults_of_the_default_options(group: str, option: str) -> None:
    """A checkpoint from before a setting takes the constructor's."""
    assert GROUPS[group] == option
    checked = 0
    for where, node in nodes(OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml")), group):
        parameters = inspect.signature(resolve(node["_target_"])).parameters
        for key, value in node.items():
            if key != "_target_" and not is_left_open(value):
                assert parameters[key].default == as_tuples(value), f"{where}.{key}"
                checked += 1
    assert checked >= 2


def test_the_check_sees_what_is_missing_unknown_misfitting_or_cut_off() -> None:
    source = {"_target_": "swahr.data.CocoSource", "annotations": 3, "frames": 1}
    cut_off = {"_target_": "swahr.decode.Dark", "sigma": 2.0}
    partial = {"_target_": "swahr.model.HeatmapHead", "_partial_": True}
    found = all_problems([source, cut_off, partial], "x")
    assert [problem.partition(": expected")[0] for problem in found] == [
        "x[0]: swahr.data.CocoSource has no parameter 'frames'",
        "x[0]: nobody gives 'images' to swahr.data.CocoSource",
        "x[0].annotations",
        "x[1]: lists 'sigma', which others must agree on",
    ]


def test_what_the_package_passes_is_found() -> None:
    assert {"seed", "criterion", "pipeline", "folder", "extract_peaks"} <= passed_by_name()
