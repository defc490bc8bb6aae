"""Makes a checkpoint fit to travel: half precision, and no paths of the machine that trained it.

Usage::

    python experiments/pack_weights.py runs/train/…/last.ckpt swahr/weights/photos_lite.safetensors
    python experiments/pack_weights.py --discriminators runs/train/…/last.ckpt discriminators.safetensors
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from swahr.checkpoint import Checkpoint, describe_run, load_checkpoint, read_ckpt, save_checkpoint
from swahr.cli.command import or_fail, report
from swahr.files import whole_file

_OWN_FOLDERS = {"output": None, "ckpt": None}
_MISSING = "???"  # Hydra's word for a value that has to be given


def pack(path: Path, output: Path) -> dict[str, Any]:
    """Write the packed checkpoint; returns its file and size."""
    checkpoint = load_checkpoint(path)
    save_checkpoint(output, _halves(path, checkpoint.weights), _description(checkpoint))
    return {"output": str(output), "bytes": output.stat().st_size}


def pack_discriminators(path: Path, output: Path) -> dict[str, Any]:
    """Write the discriminators of an adversarial training, ``pose.…`` and ``confidence.…``, to a file."""
    state = read_ckpt(path)["state_dict"]
    prefix = "discriminators."
    weights = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    if not weights:
        raise ValueError(f"{path}: expected the last.ckpt of an adversarial training, got no discriminators")
    with whole_file(output) as partial:
        save_file(_halves(path, weights), partial)
    return {"output": str(output), "bytes": output.stat().st_size}


def _halves(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    if not all(torch.isfinite(tensor).all() for tensor in halves.values()):
        raise ValueError(f"{path}: some weights are beyond the range of half precision")
    return halves


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
    parser.add_argument(
        "--discriminators", action="store_true", help="pack those of an adversarial training instead"
    )
    arguments = parser.parse_args()
    run = pack_discriminators if arguments.discriminators else pack
    or_fail("pack_weights", lambda: report(run(arguments.checkpoint, arguments.output)))


if __name__ == "__main__":
    main()
