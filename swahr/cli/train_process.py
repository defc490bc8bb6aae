"""One of the processes of a run on several devices, other than the first: ``… train_process config.yaml``."""

from __future__ import annotations

import os
import sys
import threading

from omegaconf import DictConfig, OmegaConf

from swahr.cli.command import or_fail
from swahr.cli.train import train


def main() -> None:
    """Take part in the run whose configuration is named, while the process that started this one lives."""
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    config = OmegaConf.load(sys.argv[1])
    assert isinstance(config, DictConfig)
    or_fail("train", lambda: train(config))


def _end_with_standard_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
