"""What the Hydra commands share: composing, clear errors, one JSON object on stdout, a fresh folder."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from swahr.build import TEST_TIME_GROUPS, configuration_folder
from swahr.checkpoint import load_checkpoint

_log = logging.getLogger(__name__)
_USER_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    FloatingPointError,
    PermissionError,
    TypeError,
    ValueError,
)
_COMMANDS_WITH_MODEL = ("evaluate", "predict", "show")
_GROUPS_OF_A_MODEL = ("data", "target", *TEST_TIME_GROUPS, "evaluation")


def run_command(name: str, job: Callable[[DictConfig], Any]) -> None:
    """Run ``job`` under Hydra with the configuration ``conf/<name>.yaml`` and the command line.

    Errors that the user can mend are shown as one message; ``HYDRA_FULL_ERROR=1`` shows where they arose.
    """

    def guarded(config: DictConfig) -> Any:
        try:
            return job(config)
        except _USER_ERRORS as error:
            if os.environ.get("HYDRA_FULL_ERROR"):
                raise
            _fail(name, str(error))

    try:
        if name in _COMMANDS_WITH_MODEL:
            _register_model_settings(sys.argv[1:])
        _check_keys(name, sys.argv[1:])
    except _USER_ERRORS as error:
        _fail(name, str(error))
    hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name=name)(guarded)()


def _fail(name: str, message: str) -> None:
    sys.stderr.write(f"swahr {name}: error: {message}\n")
    raise SystemExit(1)


def _register_model_settings(arguments: list[str]) -> None:
    """Offer the settings inside ``model=<checkpoint>`` to Hydra as the option ``from_model`` of each group.

    Without a model they are the defaults of `swahr train`.
    """
    models = [argument.partition("=")[2] for argument in arguments if argument.startswith("model=")]
    if models and models[-1].endswith((".safetensors", ".ckpt")) and "," not in models[-1]:
        config: Mapping[str, Any] = load_checkpoint(models[-1].strip("'\"")).config
    else:
        composed = OmegaConf.to_container(compose_config("train"), resolve=False)
        assert isinstance(composed, dict)
        config = {str(key): value for key, value in composed.items()}
    for group in _GROUPS_OF_A_MODEL:
        ConfigStore.instance().store(name="from_model", group=group, node=config[group])


def compose_config(name: str, overrides: list[str] | None = None) -> DictConfig:
    """The configuration of a command, as its command line would give it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(configuration_folder())):
        return compose(name, overrides or [])


def _check_keys(name: str, arguments: list[str]) -> None:
    """Name the nearest keys when an override fits none, which Hydra does not."""
    overrides = [a for a in arguments if "=" in a and not a.startswith(("-", "+", "~", "hydra"))]
    for override in overrides:
        key, _, value = override.partition("=")
        if "," in value:
            continue  # a sweep; each of its jobs is checked when it is composed
        try:
            compose_config(name, [override])
        except HydraException as error:
            if "experiment" in "".join(overrides) or not re.search("not in struct|Could not", str(error)):
                continue  # it may fit once the others are applied: Hydra decides
            _raise_unknown_key(name, key, error)


def _raise_unknown_key(name: str, key: str, error: HydraException) -> None:
    known = _keys(OmegaConf.to_container(compose_config(name), resolve=False))
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`swahr {name} --help` lists the keys"
    raise ValueError(f"conf/{name}.yaml has no key '{key}' ({str(error).splitlines()[0]}); {hint}") from error


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return [prefix.removesuffix(".")]
    own = [prefix.removesuffix(".")] if prefix else []
    return own + [key for name, value in node.items() for key in _keys(value, f"{prefix}{name}.")]


def fresh_folder(path: str) -> Path:
    """A run's folder, which must not hold another run's files (Hydra's own are already there).

    Raises:
        FileExistsError: it does.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    foreign = (file.name for file in folder.iterdir() if file.name != ".hydra" and file.suffix != ".log")
    if others := sorted(foreign):
        raise FileExistsError(
            f"{folder} holds files of another run ({', '.join(others[:4])}); run folders are never reused: "
            "choose another output=…"
        )
    return folder


def write_json(path: Path, value: Any) -> None:
    """Write JSON; nothing appears under ``path`` before it is complete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def report(value: Mapping[str, Any]) -> None:
    """Print a command's result, one JSON object, on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
