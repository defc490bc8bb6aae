"""Instantiation of configuration nodes: ``{_target_: package.Class, …}`` becomes ``Class(…)``."""

import functools
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from swahr.choices import check_setting
from swahr.migration import renamed

PACKAGE = "swahr."
"""Prefix of the names of this package's classes."""


def configuration_folder() -> Path:
    """``conf/`` in the installed wheel or at the checkout's root; FileNotFoundError if it is in neither."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"expected conf/ in {package} or beside it, found neither; install swahr again")


def instantiate(node: Mapping[str, Any] | DictConfig, **facts: Any) -> Any:
    """Call a node's ``_target_`` with the node's other entries.

    Nested nodes are instantiated first, and lists become tuples. Every constructor receives those ``facts``
    that it has a parameter for and its node does not set. ``_partial_: true`` returns a `functools.partial`.

    Args:
        node: a node as composed by Hydra, with interpolations.
        facts: values that the caller knows, such as ``skeleton``, ``num_keypoints`` or ``strides``.

    Raises:
        ValueError: there is no target, it does not exist, or an entry is not one of its parameters or not of
            its type.
    """
    return _instantiate(
        OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node, facts
    )


def _instantiate(node: Any, facts: Mapping[str, Any]) -> Any:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ValueError(f"expected a node with `_target_`, got {node!r}")
    values = dict(node)
    name, partial = str(values.pop("_target_")), bool(values.pop("_partial_", False))
    target = locate(name)
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if unknown := [key for key in values if key not in parameters and not takes_any]:
        raise ValueError(
            f"{name} has no {', '.join(unknown)}; expected some of {', '.join(parameters)}. These keys are "
            "probably from an experiment or a YAML under `defaults` that has another class here"
        )
    _check_types(name, target, values)
    given = {key: facts[key] for key in facts.keys() & _accepted(target) - values.keys()}
    arguments = {key: _value(value, facts) for key, value in values.items()} | given
    return functools.partial(target, **arguments) if partial else target(**arguments)


def _check_types(name: str, target: Any, values: Mapping[str, Any]) -> None:
    """Raise ValueError if an entry does not fit its parameter's type, e.g. text where a flag is expected."""
    try:
        constructor = inspect.getattr_static(target, "__init__") if isinstance(target, type) else target
        hints = get_type_hints(constructor)
    except (NameError, TypeError, AttributeError):  # names that are imported for type checkers only
        return
    for key in values.keys() & hints.keys():
        if values[key] is not None:
            check_setting(f"{name}: {key}", values[key], hints[key])


def _accepted(target: Any) -> set[str]:
    """Parameter names; if a constructor has ``**kwargs``, also those of the constructor that it extends."""
    bases = target.__mro__[1:] if isinstance(target, type) else ()
    names: set[str] = set()
    for constructor in (target, *(vars(base)["__init__"] for base in bases if "__init__" in vars(base))):
        parameters = inspect.signature(constructor).parameters
        names |= parameters.keys()
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


def _value(value: Any, facts: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if "_target_" in value:
            return _instantiate(value, facts)
        return {key: _value(item, facts) for key, item in value.items()}
    return tuple(_value(item, facts) for item in value) if isinstance(value, list) else value


def locate(name: str) -> Any:
    """The object with a dotted name, or with an earlier one. Names in this package are those of its classes.

    Raises:
        ValueError: there is no such object, or it is not one of this package's classes.
    """
    name = str(renamed(name))
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"_target_: {name}: no such class ({error}); correct the configuration") from error
    if name.startswith(PACKAGE) and not (isinstance(found, type) and found.__module__.startswith(PACKAGE)):
        raise ValueError(f"_target_: {name}: expected a class of swahr, got {found!r}")
    return found
