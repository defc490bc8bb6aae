"""Configuration nodes and what they stand for: ``{_target_: package.Class, …}`` becomes ``Class(…)``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf


def configuration_folder() -> Path:
    """``conf/``: inside the installed wheel, or at the root of the checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no conf/ in {package} or beside it; install swahr again")


def create(node: Mapping[str, Any] | DictConfig, **facts: Any) -> Any:
    """Call a node's ``_target_`` with its other entries (lists become tuples) and the given facts.

    Raises:
        ValueError: an entry is none of the target's settings.
    """
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    assert isinstance(values, dict)
    name = str(values.pop("_target_"))
    target = hydra.utils.get_object(name)
    settings = list(inspect.signature(target).parameters)
    if unknown := [str(value) for value in values if value not in settings]:
        raise ValueError(
            f"{name} has no {', '.join(unknown)}; expected some of {', '.join(settings)}. An experiment that "
            "sets up one option of a group, such as data=synthetic_moderate, does not go with another one"
        )
    return target(**{str(name): _plain(value) for name, value in values.items()} | facts)


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and "_target_" in value:
        return create(value)
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value
