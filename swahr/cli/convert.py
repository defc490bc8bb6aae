"""``swahr convert``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from swahr.build import build_network, build_skeleton, describe
from swahr.checkpoint import save_checkpoint
from swahr.cli.command import fresh_folder, report, run_command
from swahr.model.weights import load_published, read_published
from swahr.nodes import create
from swahr.stamp import make_stamp


def convert(config: DictConfig) -> None:
    """Turn the published weights ``config.published`` into a checkpoint of the configured network.

    Raises:
        ValueError: the file is of another network, or holds a backbone only; or the keypoints are not said.
    """
    skeleton = build_skeleton(config.data.skeleton)
    if skeleton is None:
        raise ValueError("data.skeleton=null: expected coco, crowdpose or a skeleton YAML file")
    network = build_network(config.model, skeleton, create(config.loss))
    file = Path(config.published)
    layout = load_published(network, read_published(file), source=str(file))
    if layout.heads is None:
        raise ValueError(
            f"{file}: expected a pose network, got {layout.name}, a backbone that finds nobody yet; start "
            f"training from it: swahr train weights={file}"
        )
    folder = fresh_folder(config.output)
    path = folder / f"{file.stem}.safetensors"
    save_checkpoint(
        path, network.state_dict(), describe(config, skeleton, make_stamp(seed=None, files=[file]))
    )
    report(
        {"output": str(folder), "checkpoint": str(path), "weights": layout.name, "skeleton": skeleton.name}
    )


def main() -> None:
    """Run the command line."""
    run_command("convert", convert)
