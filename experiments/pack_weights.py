"""Makes a checkpoint fit to travel: half precision, and no paths of the machine that trained it.

Usage::

    python experiments/pack_weights.py runs/train/…/last.ckpt swahr/weights/photos_lite.safetensors
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml

from swahr.checkpoint import Checkpoint, describe_run, load_checkpoint, save_checkpoint
from swahr.cli.command import or_fail, report

_PATHS = {"output": None, "ckpt": None}
"""Settings of a run that name its own folders."""
_MISSING = "???"  # Hydra's word for a value that has to be given


def pack(path: Path, output: Path) -> dict[str, Any]:
    """Write the packed checkpoint; returns its file and size."""
    checkpoint = load_checkpoint(path)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in checkpoint.weights.items()}
    if not all(torch.isfinite(tensor).all() for tensor in halves.values()):
        raise ValueError(f"{path}: some weights are beyond the range of half precision")
    save_checkpoint(output, halves, _description(checkpoint))
    return {"output": str(output), "bytes": output.stat().st_size}


def _description(checkpoint: Checkpoint) -> str:
    config, stamp = checkpoint.config, checkpoint.stamp
    run = yaml.safe_load(stamp["config"])
    for settings in (config, run):
        settings["data"] = settings["data"] | {"root": _MISSING}
    stamp = stamp | {"config": yaml.safe_dump(run | _PATHS, sort_keys=False)}
    return describe_run(config, checkpoint.facts, checkpoint.skeleton, stamp)


def main() -> None:
    """Pack the checkpoint named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    or_fail("pack_weights", lambda: report(pack(arguments.checkpoint, arguments.output)))


if __name__ == "__main__":
    main()
