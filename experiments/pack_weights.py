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

_OWN_FOLDERS = {"output": None, "ckpt": None}
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
    config, run = (_named(each) for each in (checkpoint.config, yaml.safe_load(checkpoint.stamp["config"])))
    for settings in (config, run):
        settings["data"] = settings["data"] | {"root": _MISSING}
    text = yaml.safe_dump(run | _OWN_FOLDERS, sort_keys=False)
    stamp = {name: value for name, value in checkpoint.stamp.items() if name != "overrides"} | {
        "config": text
    }
    return describe_run(config, checkpoint.facts, checkpoint.skeleton, stamp)


def _named(value: Any) -> Any:
    """Settings in which paths are reduced to names; those relative to other settings (``${…}/…``) stay."""
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_named(each) for each in value]
    is_path = isinstance(value, str) and "/" in value and not value.startswith("${")
    return Path(value).name if is_path else value


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
