"""``swahr export``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from swahr.build import TEST_TIME_GROUPS, build_network_from
from swahr.checkpoint import describe_run, load_checkpoint
from swahr.cli.command import check_unused, report, run_command
from swahr.inference import export_network
from swahr.nodes import create


def export(config: DictConfig) -> None:
    """Write the network of a checkpoint, with its test-time settings, to the ONNX file ``config.output``.

    Raises:
        ValueError: the output has another ending than ``.onnx``.
    """
    path = Path(config.output)
    if path.suffix != ".onnx":
        raise ValueError(f"output={path}: expected a file that ends in .onnx")
    check_unused(path)
    checkpoint = load_checkpoint(config.checkpoint)
    settings = {name: OmegaConf.to_container(config[name], resolve=True) for name in TEST_TIME_GROUPS}
    path.parent.mkdir(parents=True, exist_ok=True)
    export_network(
        path,
        network=build_network_from(checkpoint),
        aggregate=create(config.aggregate, flip_permutation=checkpoint.skeleton.flip_permutation),
        extract_peaks=create(config.grouping.peaks),
        description=describe_run(checkpoint.config | settings, checkpoint.skeleton, checkpoint.stamp),
    )
    report({"output": str(path), "skeleton": checkpoint.skeleton.name, "bytes": path.stat().st_size})


def main() -> None:
    """Run the command line."""
    run_command("export", export)
