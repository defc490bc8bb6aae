"""Running commands under Hydra: settings, error messages, run folders, and the JSON object on stdout."""

import io
import json
import logging
import os
import re
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
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
from swahr.cli.inputs import inputs_as_override
from swahr.cli.overrides import compose_checked, parse_overrides, single_runs
from swahr.cli.processes import is_first_process
from swahr.execution import keep_freed_memory
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
FAILED = "failed: "
"""Begins the line of a run's log with the reason why it failed."""
_COMMANDS_WITH_CHECKPOINT = ("evaluate", "export", "predict", "show")
_COMMANDS_WITH_IMAGES = ("predict", "show")
_GROUPS_OF_A_CHECKPOINT = ("data", "targets", *TEST_TIME_GROUPS, "second_stage", "evaluation")
_WITHOUT_FILES = [  # Hydra's settings in processes that write nothing
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]


def run_command(name: str, job: Callable[[DictConfig], Any], *, resumes: bool = False) -> None:
    """Run ``job`` under Hydra with the configuration ``conf/<name>.yaml`` and the command line.

    Errors become one message; ``HYDRA_FULL_ERROR=1`` shows the traceback instead. Each run of a
    sweep has its own ``output`` in the folder given on the command line. In commands that load a checkpoint,
    ``model=FILE`` is the same as ``checkpoint=FILE``. If the job ``resumes``, ``output`` may have files.
    """

    def guarded(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            config.output = HydraConfig.get().runtime.output_dir
            return logged(config)  # Hydra reports a failed run and continues with the next one
        return or_fail(name, lambda: logged(config), folder=Path(config.output))

    def logged(config: DictConfig) -> Any:
        try:
            return job(config)
        except Exception as error:
            _log_reason(Path(config.output, f"{name}.log"), error)
            raise

    keep_freed_memory()
    logging.raiseExceptions = False  # a log on a full disk must not hide the error behind tracebacks
    sys.argv[1:] = or_fail(name, lambda: _prepared(name, sys.argv[1:], resumes=resumes))
    run = hydra.main(version_base="1.3", config_path=str(configuration_folder()), config_name=name)(guarded)
    if not any(_flags(sys.argv[1:]).values()):
        run()
        return
    # Text is written by us, as Hydra prints a traceback if the reader, such as `head`, closes the pipe.
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            run()
    finally:
        sys.stdout.write(_with_own_groups(name, text.getvalue()))


def _log_reason(log: Path, error: Exception) -> None:
    """Append a line with the reason why a run failed to its log, where `swahr table` finds it."""
    if log.parent.is_dir() and is_first_process():
        with suppress(OSError), log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())}\n")


def _flags(arguments: list[str]) -> dict[str, Any]:
    """Hydra's flags that show something instead of running the command."""
    given = vars(get_args_parser().parse_intermixed_args(arguments))
    return {flag: value for flag, value in given.items() if flag not in ("overrides", "multirun")}


def _with_own_groups(name: str, text: str) -> str:
    """The help text of a command without the groups that are not part of its configuration."""
    before, heading, rest = text.partition("== Configuration groups ==")
    groups, next_heading, after = rest.partition("== Config ==")
    chosen = _compose(name, [], return_hydra_config=True).hydra.runtime.choices if heading else {}
    lines = [line for line in groups.splitlines() if ": " not in line or line.partition(": ")[0] in chosen]
    return before + heading + "\n".join(lines) + ("\n" if lines else "") + next_heading + after


def or_fail(name: str, action: Callable[[], Any], *, folder: Path | None = None) -> Any:
    """Run ``action``; an error becomes one message and exit code 1.

    The traceback of an error that the user cannot fix is saved in ``folder`` if it exists, else in a
    temporary file.
    """
    try:
        return action()
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        text = str(error)
        if not isinstance(error, _USER_ERRORS) or _from_library(error):
            text = f"{textwrap.shorten(f'{type(error).__name__}: {text}', 500)} ({_saved(error, folder)})"
        if "in DataLoader worker process" in text:  # PyTorch puts the worker's traceback before the message
            text = re.split(rf"^(?:\w+\.)*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
        sys.stderr.write(f"swahr {name}: error: {text.strip()}\n")
        raise SystemExit(1) from None


def _from_library(error: Exception) -> bool:
    """Whether a ValueError or TypeError was raised in a module of another package."""
    if not isinstance(error, ValueError | TypeError) or "in DataLoader worker process" in str(error):
        return False
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package in ("swahr", "hydra", "omegaconf", "lightning"):
        return False
    return package in sys.stdlib_module_names or "site-packages" in frame.f_code.co_filename


def _saved(error: Exception, folder: Path | None) -> str:
    """Save an error's traceback; returns where it is."""
    lines = "".join(traceback.format_exception(error))
    for place in (folder, Path(tempfile.gettempdir())):
        if place is not None and place.is_dir():
            path = place / ("traceback.log" if place is folder else f"swahr-traceback-{uuid4().hex[:8]}.log")
            with suppress(OSError):
                path.write_text(lines, encoding="utf-8", errors="backslashreplace")
                return f"traceback: {path}"
    return "HYDRA_FULL_ERROR=1 shows the traceback"


def _prepared(name: str, arguments: list[str], *, resumes: bool) -> list[str]:
    """The arguments for Hydra, overrides first; they are checked here, before Hydra makes a folder."""
    given = vars(get_args_parser().parse_intermixed_args(arguments))
    words, sweep = given["overrides"], given["multirun"]
    flags = [argument for argument in arguments if argument not in words]
    if name in _COMMANDS_WITH_CHECKPOINT:
        words = [re.sub(r"^model=", "checkpoint=", word) for word in words]
    if name in _COMMANDS_WITH_IMAGES:
        words = inputs_as_override(words)
    overrides = parse_overrides(words)
    _offer_checkpoint_settings(name, overrides)
    if not is_first_process():  # started by torchrun or a cluster
        words += _WITHOUT_FILES
    if any(_flags(arguments).values()):  # --help, --cfg and others, which Hydra handles
        return [*words, *flags]
    if sweep and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "the runs of a sweep start their own processes: set trainer.devices, without torchrun"
        )
    runs = single_runs(overrides) if sweep else [[override.input_line or "" for override in overrides]]
    for run in runs:
        config = compose_checked(name, run, lambda values: _compose(name, values))
        if not sweep and is_first_process():
            if not resumes:
                check_unused(Path(config.output))
            _check_creatable(Path(config.output))
    if sweep:  # only swept settings are part of the folders' names
        fixed = [o.key_or_group for o in overrides if not o.is_sweep_override() and not o.is_hydra_override()]
        quoted = ",".join(f"'{key}'" for key in fixed)
        words.append(f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]")
    return [*words, *flags]


def _offer_checkpoint_settings(name: str, overrides: list[Override]) -> None:
    """Register the settings of the checkpoint, or else of `swahr train`, as options ``from_checkpoint``."""
    if name not in _COMMANDS_WITH_CHECKPOINT:
        return
    given = {override.key_or_group: override for override in overrides}
    checkpoint, trust = given.get("checkpoint"), given.get("trust")
    if checkpoint is not None and checkpoint.is_sweep_override():
        raise ValueError("`checkpoint` cannot be swept: the other defaults are read from it")
    named = _default_checkpoint(name) if checkpoint is None else checkpoint.value()
    config: Any
    if named is None:
        config = OmegaConf.to_container(_compose("train", []), resolve=False)
    else:
        trusted: Any = None if trust is None else trust.value()
        config = load_checkpoint(str(named), trust=trusted or ()).config
    for group in _GROUPS_OF_A_CHECKPOINT:
        ConfigStore.instance().store(name="from_checkpoint", group=group, node=dict(config.get(group, {})))


def _default_checkpoint(name: str) -> str | None:
    """The checkpoint that a command uses if none is given; None if it has to be given, or needs none."""
    config = OmegaConf.load(configuration_folder() / f"{name}.yaml")
    return None if OmegaConf.is_missing(config, "checkpoint") else config.checkpoint


def compose_config(name: str, overrides: list[str] | None = None) -> DictConfig:
    """The configuration of a command with these overrides on its command line."""
    _offer_checkpoint_settings(name, parse_overrides(overrides or []))
    return _compose(name, overrides or [])


def _compose(name: str, overrides: list[str], *, return_hydra_config: bool = False) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(configuration_folder())):
        return compose(name, overrides, return_hydra_config=return_hydra_config)


def fresh_folder(path: str) -> Path:
    """Create a run's folder.

    Raises:
        FileExistsError: it contains files of another run.
    """
    folder = Path(path)
    check_unused(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_unused(folder: Path) -> None:
    """Check that a folder does not exist, or only contains Hydra's files.

    Raises:
        FileExistsError: it contains files of another run, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another output=…")
    files = folder.iterdir() if folder.exists() else ()
    if others := sorted(file.name for file in files if file.name != ".hydra" and file.suffix != ".log"):
        raise FileExistsError(
            f"{folder} holds files of another run ({', '.join(others[:4])}); run folders are never reused: "
            "choose another output=…"
        )


def _check_creatable(path: Path) -> None:
    """Raise OSError unless a folder or file can be created at ``path``; Hydra's message is a traceback."""
    parent = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OSError(f"output={path}: cannot write to {parent}; choose another output=…")


def report(value: Mapping[str, Any]) -> None:
    """Print a command's result as one JSON object on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
