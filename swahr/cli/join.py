"""``swahr join``."""

import json
from pathlib import Path

from omegaconf import DictConfig

from swahr.build import check_finds_all_people, check_finds_one_person
from swahr.checkpoint import SECOND_STAGE, Checkpoint, describe_run, load_checkpoint, save_checkpoint
from swahr.cli.command import check_unused, report


def join(config: DictConfig) -> None:
    """Write the networks of both stages to the checkpoint ``config.output``.

    Raises:
        ValueError: the output does not end in ``.safetensors``, a network is of the other stage or exported,
            or they have different keypoints.
    """
    path = Path(config.output)
    if path.suffix != ".safetensors":
        raise ValueError(f"output={path}: expected a file that ends in .safetensors")
    check_unused(path)
    first, second = (load_checkpoint(config[name], trust=config.trust or ()) for name in ("first", "second"))
    check_finds_all_people(first)
    check_finds_one_person(second, first.skeleton)
    for checkpoint in (first, second):
        if checkpoint.is_exported:
            raise ValueError(f"{checkpoint.path}: expected a .safetensors or .ckpt, got an exported network")
    weights = {f"{SECOND_STAGE}.{name}": tensor for name, tensor in second.weights.items()}
    first.config.pop(SECOND_STAGE, None)  # of an earlier join
    both = json.loads(_description(first)) | {SECOND_STAGE: json.loads(_description(second))}
    save_checkpoint(path, first.weights | weights, json.dumps(both))
    report({"output": str(path), "skeleton": first.skeleton.name, "bytes": path.stat().st_size})


def _description(checkpoint: Checkpoint) -> str:
    parts = checkpoint.config, checkpoint.facts, checkpoint.skeleton, checkpoint.stamp
    return describe_run(*parts)
