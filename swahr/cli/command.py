"""What the Hydra commands share: composing, clear errors, one JSON object on stdout, a fresh folder."""

from __future__ import annotations

import json
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
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from swahr.build import TEST_TIME_GROUPS
from swahr.checkpoint import load_checkpoint
from swahr.cli.overrides import compose_checked, parse_overrides, single_runs
from swahr.cli.processes import is_first_process
from swahr.nodes import configuration_folder

_USER_ERRORS = (
    FloatingPointError,
    ImportError,
    MisconfigurationException,
    OSError,
    OmegaConfBaseException,
    TypeError,
    ValueError,
)
_COMMANDS_WITH_CHECKPOINT = ("evaluate", "export", "predict", "show")
_GROUPS_OF_A_CHECKPOINT = ("data", "target", *TEST_TIME_GROUPS, "evaluation")
_SWEEP_FLAGS = {"-m", "--multirun"}
_WRITING_NOTHING = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


def run_command(name: str, job: Callable[[DictConfig], Any]) -> None:
    """Run ``job`` under Hydra with the configuration ``conf/<name>.yaml`` and the command line.

    Errors that the user can mend are shown as one message; ``HYDRA_FULL_ERROR=1`` shows where they arose.
    Each run of a sweep has its own ``output``, inside the folder that the command line says. Where a network
    is run and not made, ``model=FILE`` is the same as ``checkpoint=FILE``.
    """
    if name in _COMMANDS_WITH_CHECKPOINT:
        sys.argv[1:] = [re.sub(r"^model=", "checkpoint=", argument) for argument in sys.argv[1:]]

    def guarded(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            config.output = HydraConfig.get().runtime.output_dir
            return job(config)  # Hydra notes a failed run, and goes on with the others of the sweep
        return or_fail(name, lambda: job(config))

    or_fail(name, lambda: _prepare(name))
    hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name=name)(guarded)()


def or_fail(name: str, action: Callable[[], Any]) -> Any:
    """Run ``action``; an error that the user can mend becomes one message and exit code 1."""
    try:
        return action()
    except _USER_ERRORS as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.stderr.write(f"swahr {name}: error: {_message(error)}\n")
        raise SystemExit(1) from None


def _message(error: Exception) -> str:
    """What the error says; PyTorch's loader processes put a whole traceback before it."""
    text = str(error)
    if "in DataLoader worker process" in text:
        text = re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
    return text.strip()


def _prepare(name: str) -> None:
    """Check the command line before Hydra makes a folder, and tell Hydra how to call a sweep's folders."""
    arguments = sys.argv[1:]
    flags = {argument for argument in arguments if argument.startswith("-")}
    overrides = parse_overrides(arguments)
    if not is_first_process():  # started by torchrun or a cluster beside one that writes the files
        sys.argv += _WRITING_NOTHING
    _offer_checkpoint_settings(name, overrides)
    if flags - _SWEEP_FLAGS:
        return  # help, or configuration from elsewhere: Hydra's business
    sweep = bool(flags)
    if sweep and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("a sweep's runs start their processes themselves: say trainer.devices, not torchrun")
    runs = single_runs(overrides) if sweep else [[override.input_line or "" for override in overrides]]
    for run in runs:
        config = compose_checked(name, run, lambda values: _compose(name, values))
        if not sweep and is_first_process():
            check_unused(Path(config.output))
    fixed = [o.key_or_group for o in overrides if not o.is_sweep_override() and not o.is_hydra_override()]
    if sweep and fixed:
        quoted = ",".join(f"'{key}'" for key in fixed)
        sys.argv.append(f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]")


def _offer_checkpoint_settings(name: str, overrides: list[Override]) -> None:
    """Offer the settings inside a checkpoint to Hydra, as the option ``from_checkpoint`` of each group.

    Without a checkpoint they are the defaults of `swahr train`.

    Raises:
        ValueError: several checkpoints, whose settings would differ.
    """
    if name not in _COMMANDS_WITH_CHECKPOINT:
        return
    given = [override for override in overrides if override.key_or_group == "checkpoint"]
    if any(override.is_sweep_override() for override in given):
        raise ValueError("one checkpoint at a time: settings come from it, so that it cannot be swept over")
    path = given[-1].value() if given else None
    config: Mapping[str, Any]
    if path is not None:
        config = load_checkpoint(str(path)).config
    else:
        composed = OmegaConf.to_container(_compose("train", []), resolve=False)
        assert isinstance(composed, dict)
        config = {str(key): value for key, value in composed.items()}
    for group in _GROUPS_OF_A_CHECKPOINT:
        ConfigStore.instance().store(name="from_checkpoint", group=group, node=config[group])


def compose_config(name: str, overrides: list[str] | None = None) -> DictConfig:
    """The configuration of a command, as its command line would give it."""
    _offer_checkpoint_settings(name, parse_overrides(overrides or []))
    return _compose(name, overrides or [])


def _compose(name: str, overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(configuration_folder())):
        return compose(name, overrides)


def fresh_folder(path: str) -> Path:
    """Make a run's folder.

    Raises:
        FileExistsError: it holds another run's files.
    """
    folder = Path(path)
    check_unused(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_unused(folder: Path) -> None:
    """Make sure that a folder holds no files of another run (Hydra's own may be there already).

    Raises:
        FileExistsError: it does, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another output=…")
    files = folder.iterdir() if folder.exists() else ()
    foreign = (file.name for file in files if file.name != ".hydra" and file.suffix != ".log")
    if others := sorted(foreign):
        raise FileExistsError(
            f"{folder} holds files of another run ({', '.join(others[:4])}); run folders are never reused: "
            "choose another output=…"
        )


def write_json(path: Path, value: Any) -> None:
    """Write JSON; nothing appears under ``path`` before it is complete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def report(value: Mapping[str, Any]) -> None:
    """Print a command's result, one JSON object, on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
