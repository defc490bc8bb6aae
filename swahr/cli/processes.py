"""Training on several devices takes a process for each: the first one starts the others.

Lightning would start them by repeating the command line, which names a sweep's runs only together, a folder
with the time of day in it, and nothing at all in a notebook. Here they read the run's ``config.yaml``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

_STRATEGIES = ("auto", "ddp")
_SETTLING_SECONDS = 5.0  # in which a process ends that has lost, or is about to lose, another one
_HANGING_SECONDS = 60.0  # after which one that has lost another is taken to wait for it for ever

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
    if strategy not in _STRATEGIES:
        raise ValueError(
            f"trainer.strategy={strategy}: on several devices expected one of {', '.join(_STRATEGIES)}"
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
        over = threading.Event()
        threading.Thread(target=_end_if_hanging, args=(others, over), daemon=True).start()
        try:
            yield
            for process in others:
                process.wait()
            _check(others)
        except Exception:
            _check(others)  # what went wrong there went wrong first
            raise
        finally:
            over.set()
            for process in others:
                process.kill()
                process.wait()
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
    return subprocess.Popen(command, env=os.environ | {"LOCAL_RANK": str(rank)})


def _check(others: Sequence[Process]) -> None:
    """Raise if one of the processes has failed, or does so presently."""
    over = threading.Event()
    waited = 0.0
    while waited < _SETTLING_SECONDS and all(process.poll() is None for process in others):
        over.wait(0.1)
        waited += 0.1
    failed = {rank: process.poll() for rank, process in enumerate(others, start=1) if process.poll()}
    if failed:
        raise ChildProcessError(
            f"training stopped because the process for device {next(iter(failed))} did; see its message above"
        )


def _end_if_hanging(others: Sequence[Process], over: threading.Event) -> None:
    """End this process if it does not end by itself after another one failed: GPUs wait for ever."""
    while not over.wait(1.0):
        if any(process.poll() for process in others):
            if not over.wait(_HANGING_SECONDS):
                sys.stderr.write("swahr train: error: another process failed; see its message above\n")
                os._exit(1)
            return
