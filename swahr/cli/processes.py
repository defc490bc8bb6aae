"""The processes of a training run on several devices, one per device.

Lightning's launcher would repeat the command line, which may describe a whole sweep or name the folder after
the time of day. Here, the first process starts the others with the run's ``config.yaml`` instead.
"""

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

_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
_EXIT_SECONDS = 5.0  # grace period in which a failing process exits
_HANG_SECONDS = 30.0  # so long after another process failed, this one hangs in a collective call

Process = subprocess.Popen[bytes]


def is_first_process() -> bool:
    """Whether this process writes the files; can be called before there is a Trainer."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_devices(trainer: Trainer, strategy: str) -> None:
    """Check the settings of a run on several devices.

    Raises:
        ValueError: the strategy is not supported, or the number of processes differs from the settings.
    """
    started = int(os.environ.get("WORLD_SIZE", trainer.world_size))
    if started != trainer.world_size:
        raise ValueError(
            f"{started} processes were started, but trainer.devices x trainer.num_nodes is "
            f"{trainer.world_size}; set both to the same number"
        )
    if trainer.world_size == 1:
        return
    launcher = trainer.strategy.launcher
    if strategy not in _STRATEGIES or launcher is None or launcher.is_interactive_compatible:
        raise ValueError(
            f"trainer.strategy={strategy}: on several devices expected one of {', '.join(_STRATEGIES)}, "
            "started from a command line and not from a notebook"
        )
    if trainer.num_nodes > 1 and not _started_from_outside(trainer):
        raise ValueError(
            f"trainer.num_nodes={trainer.num_nodes}: on several machines, start the processes with torchrun "
            "or SLURM"
        )


@contextmanager
def other_processes(trainer: Trainer, config_file: Path) -> Iterator[None]:
    """Run the other processes inside the context, unless torchrun or a cluster started them.

    Args:
        trainer: the Trainer of the first process.
        config_file: the run's resolved configuration.

    Raises:
        ChildProcessError: one of them failed; it has written its own message.
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
                _wait_for_failure(others)  # a failed process closes its connections, which raises here, too
                _check([process.poll() for process in others])
                raise
            finally:
                for process in others:
                    with process:  # waits and closes the pipe
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
    """Make this process the first of several inside the context; a sweep's next run may have only one."""
    environment = LightningEnvironment()
    address, port = environment.main_address, str(environment.main_port)
    ranks = {"WORLD_SIZE": str(count), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ.update(ranks, MASTER_ADDR=address, MASTER_PORT=port)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)  # without OMP_NUM_THREADS, which Lightning sets
        torch.set_num_threads(threads)


def _start(rank: int, config_file: Path) -> Process:
    command = (sys.executable, "-m", "swahr.cli.train", str(config_file))
    # The pipe closes when this process exits or crashes; see `swahr.cli.train.join_run`.
    return subprocess.Popen(command, env=os.environ | {"LOCAL_RANK": str(rank)}, stdin=subprocess.PIPE)


def _check(exit_codes: Sequence[int | None]) -> None:
    if failed := [rank for rank, code in enumerate(exit_codes, start=1) if code]:
        raise ChildProcessError(
            f"training stopped because the process for device {failed[0]} failed; see its message above"
        )


def _wait_for_failure(others: Sequence[Process]) -> None:
    deadline = time.monotonic() + _EXIT_SECONDS
    while not any(process.poll() for process in others) and time.monotonic() < deadline:
        time.sleep(0.1)


@contextmanager
def _ended_if_hanging(others: Sequence[Process]) -> Iterator[None]:
    """Exit if the context is not left soon after another process failed: GPUs may wait for it forever."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if any(process.poll() for process in others):
                if not over.wait(_HANG_SECONDS):
                    sys.stderr.write("swahr train: error: another process failed; see its message above\n")
                    os._exit(1)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
