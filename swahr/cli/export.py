"""``swahr export``."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from swahr.build import (
    TEST_TIME_GROUPS,
    build_network_from,
    is_of_one_person,
    network_facts,
    skeleton_facts,
    target_facts,
)
from swahr.checkpoint import SECOND_STAGE, Checkpoint, describe_run, load_checkpoint
from swahr.cli.command import check_unused, report
from swahr.inference import export_network
from swahr.nodes import instantiate


def export(config: DictConfig) -> None:
    """Export a checkpoint with test-time settings to the ONNX file ``config.output``.

    A joined checkpoint becomes two files. That of its second network ends in ``_second_stage.onnx``, and has
    that network's own settings.

    Raises:
        ValueError: the output does not end in ``.onnx``.
    """
    path = Path(config.output)
    if path.suffix != ".onnx":
        raise ValueError(f"output={path}: expected a file that ends in .onnx")
    other = path.with_stem(f"{path.stem}_{SECOND_STAGE}")
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust or ())
    second = checkpoint.second_stage
    for file, network in ((path, checkpoint), (other, second)):
        if network is not None:
            check_unused(file)
    _export(path, checkpoint, config)
    result = {"output": str(path), "skeleton": checkpoint.skeleton.name, "bytes": path.stat().st_size}
    if second is not None:
        _export(other, second, OmegaConf.create(second.config))
        result[SECOND_STAGE] = str(other)
    report(result)


def _export(path: Path, checkpoint: Checkpoint, config: DictConfig) -> None:
    settings: dict[str, Any] = {
        name: OmegaConf.to_container(config[name], resolve=True) for name in TEST_TIME_GROUPS
    }
    for_one_person = is_of_one_person(checkpoint)
    groups = dict(checkpoint.config)
    if for_one_person:  # the second stage itself runs mirrored crops
        settings["aggregate"] |= {"flip": False, "project": False, "test_scales": [1.0]}
    else:
        groups.pop(SECOND_STAGE, None)
    network = build_network_from(checkpoint)
    own = network_facts(network)
    facts = skeleton_facts(checkpoint.skeleton) | target_facts(checkpoint.config["targets"]) | own
    is_conditioned = for_one_person and groups[SECOND_STAGE].get("condition") is not None
    export_network(
        path,
        network=network,
        aggregate=instantiate(settings["aggregate"], **facts),
        extract_peaks=None if for_one_person else instantiate(config.grouping.peaks, **facts),
        description=describe_run(groups | settings, own, checkpoint.skeleton, checkpoint.stamp),
        conditions=checkpoint.skeleton.num_keypoints if is_conditioned else 0,
    )
