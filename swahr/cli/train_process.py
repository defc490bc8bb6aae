"""One of the processes of a run on several devices, other than the first: ``… train_process config.yaml``."""

from __future__ import annotations

import sys

from omegaconf import DictConfig, OmegaConf

from swahr.cli.command import or_fail
from swahr.cli.train import train


def main() -> None:
    """Take part in the run whose configuration is named."""
    config = OmegaConf.load(sys.argv[1])
    assert isinstance(config, DictConfig)
    or_fail("train", lambda: train(config))


if __name__ == "__main__":
    main()
