"""A small training run, for tests of training and of what a run keeps."""

from pathlib import Path

from lightning.pytorch import seed_everything

from swahr.cli.command import compose_config
from swahr.training.build import TrainingRun, build_training


def smoke_run(folder: Path, *overrides: str) -> TrainingRun:
    """The objects of `swahr train experiment=smoke` with some overrides, seeded as the command seeds them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = compose_config("train", ["experiment=smoke", f"output={folder}", *overrides])
    seed_everything(config.seed, workers=True, verbose=False)
    return build_training(config, folder)
