"""Training on several devices takes a process for each: the first one starts the others.

Lightning would start them by repeating the command line, but that may name all runs of a sweep together, or a
folder with the time of day in it. Here they read the run's ``config.yaml``, which says everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

_STRATEGIES = ("auto", "ddp")
_SETTLING_SECONDS = 5.0  # in which a process has ended whose loss others have noticed
_HANGING_SECONDS = 30.0  # after which one that has lost another is taken to wait for it for ever

Process = subprocess.Popen[bytes]


def is_first_process() -> bool:
    """Whether this process writes the files; asked before there is a trainer that knows."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_devices(trainer: Trainer, strategy: str) -> None:
    """Make sure that the processes there are, or will be, are those that the settings ask for.

    Raises:
        ValueError: they are not, or the strategy is none of those that work.
    """
    started = int(os.environ.get("WORLD_SIZE", trainer.world_size))
    if started != trainer.world_size:
        raise ValueError(
            f"{started} processes were started, but trainer.devices x trainer.num_nodes is "
            f"{trainer.world_size}; let them be the same"
        )
    if trainer.world_size == 1:
        return
    launcher = trainer.strategy.launcher
    if strategy not in _STRATEGIES or launcher is None or launcher.is_interactive_compatible:
        raise ValueError(
            f"trainer.strategy={strategy}: on several devices expected one of {', '.join(_STRATEGIES)}, and "
            "a command line rather than a notebook"
        )
    if trainer.num_nodes > 1 and not _started_from_outside(trainer):
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes}: on several machines start the processes with torchrun "
            "or SLURM"
        )


@contextmanager
def other_processes(trainer: Trainer, config_file: Path) -> Iterator[None]:
    """Have the run's other processes while inside, if nobody else has started them.

    Args:
        trainer: whose devices want a process each.
        config_file: the run's configuration, resolved.

    Raises:
        ChildProcessError: one of them failed, and said why.
    """
    if trainer.world_size == 1 or _started_from_outside(trainer):
        yield
        return
    with _settings_of_processes(trainer.world_size):
        others = [_start(rank, config_file) for rank in range(1, trainer.world_size)]
        with _ended_if_hanging(others):
            try:
                yield
                _check([process.wait() for process in others])
            except RuntimeError:
                _check(_exit_codes(others))  # one that ended does not answer any more
                raise
            finally:
                for process in others:
                    with process:  # which waits, and closes the pipe
                        process.kill()
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()


def _started_from_outside(trainer: Trainer) -> bool:
    strategy = trainer.strategy
    assert isinstance(strategy, DDPStrategy)
    assert strategy.cluster_environment is not None
    return bool(strategy.cluster_environment.creates_processes_externally)


@contextmanager
def _settings_of_processes(count: int) -> Iterator[None]:
    """Make this process the first of several; undone afterwards, for a sweep's next run is in it too."""
    place = LightningEnvironment()
    settings = {
        "MASTER_ADDR": place.main_address,
        "MASTER_PORT": str(place.main_port),
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
        "LOCAL_RANK": "0",
    }
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in (*settings, "OMP_NUM_THREADS"):  # the last is Lightning's doing
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
        torch.set_num_threads(threads)


def _start(rank: int, config_file: Path) -> Process:
    command = (sys.executable, "-m", "swahr.cli.train_process", str(config_file))
    # The pipe closes when this process ends, however it ends; see train_process.
    return subprocess.Popen(command, env=os.environ | {"LOCAL_RANK": str(rank)}, stdin=subprocess.PIPE)


def _check(exit_codes: Sequence[int | None]) -> None:
    for rank, code in enumerate(exit_codes, start=1):
        if code:
            raise ChildProcessError(
                f"training stopped because the process for device {rank} did; see its message above"
            )


def _exit_codes(others: Sequence[Process]) -> list[int | None]:
    """The exit codes, None for a process that runs; one that is about to fail is given time to."""
    deadline = time.monotonic() + _SETTLING_SECONDS
    while not any(process.poll() for process in others) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [process.poll() for process in others]


@contextmanager
def _ended_if_hanging(others: Sequence[Process]) -> Iterator[None]:
    """End this process if it does not leave the context soon after another failed: GPUs wait for ever."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if any(process.poll() for process in others):
                if not over.wait(_HANGING_SECONDS):
                    sys.stderr.write("swahr train: error: another process failed; see its message above\n")
                    os._exit(1)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
