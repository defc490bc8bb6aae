"""Composition for prediction: builds a network and its test-time pipeline from a configuration.

Values that several components share (number of keypoints, flip order, strides, Gaussian width) are *facts*:
every constructor with a parameter of that name receives them (see `swahr.nodes.instantiate`), so that YAML
files do not repeat them. `swahr.training.build` composes training.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from swahr.checkpoint import Checkpoint
from swahr.choices import check_setting
from swahr.inference import ExportedAggregator, exported_peaks
from swahr.nodes import instantiate
from swahr.pipeline import PosePipeline
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

TEST_TIME_GROUPS = ("aggregate", "grouping", "decode", "postprocess")
"""Groups that can be changed after training."""


def build_skeleton(name: str | Skeleton | None) -> Skeleton | None:
    """The skeleton ``coco``, ``crowdpose`` or that of a YAML file; None if the data define it."""
    if isinstance(name, Skeleton):
        return name
    known = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE)}
    if not name or name in known:
        return known[name] if name else None
    if not Path(name).is_file():
        raise FileNotFoundError(f"data.skeleton={name}: expected {', '.join(known)} or a skeleton YAML file")
    return Skeleton.from_yaml(name)


def chosen_skeleton(name: str | None, checkpoint: Checkpoint) -> str | Skeleton | None:
    """The setting ``data.skeleton``, or the checkpoint's skeleton if that is what was named in training."""
    unchanged = name is not None and name == checkpoint.config["data"].get("skeleton")
    return checkpoint.skeleton if unchanged else name


def skeleton_facts(skeleton: Skeleton) -> dict[str, Any]:
    """Facts about the keypoints."""
    names = ("num_keypoints", "flip_permutation", "limb_indices", "grouping_indices")
    return {"skeleton": skeleton, **{name: getattr(skeleton, name) for name in names}}


def target_facts(node: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about the training targets: the Gaussians' ``sigma`` and the maps' ``alignment``."""
    return {name: node[name] for name in ("sigma", "alignment") if name in node}


def network_facts(network: Any) -> dict[str, Any]:
    """Facts about a network: the ``strides`` of its maps and the ``size_multiple`` of its inputs."""
    return {"strides": tuple(network.strides), "size_multiple": network.size_multiple}


def build_network(node: DictConfig | Mapping[str, Any], skeleton: Skeleton) -> nn.Module:
    """A network for a skeleton, with all heads of its node."""
    network: nn.Module = instantiate(node, **skeleton_facts(skeleton))
    return network


def build_network_from(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint, with its weights loaded."""
    network = build_network(checkpoint.config["model"], checkpoint.skeleton)
    checkpoint.load_into(network)
    return network


def build_pipeline(config: DictConfig, facts: Mapping[str, Any], *, exported: bool = False) -> PosePipeline:
    """The test-time pipeline.

    Args:
        config: a configuration with the groups of `TEST_TIME_GROUPS` and ``batch_size``.
        facts: facts about the skeleton, the targets and the network.
        exported: whether the network is exported; it then merges maps and finds peaks itself.
    """
    check_setting("batch_size", config.batch_size, int)
    if config.batch_size < 1:
        raise ValueError(f"batch_size={config.batch_size}: expected at least 1")
    aggregate = instantiate(config.aggregate, **facts)
    decode = instantiate(
        config.decode,
        **facts,
        extract_peaks=exported_peaks if exported else instantiate(config.grouping.peaks, **facts),
        group=instantiate(config.grouping.rule, **facts),
    )
    return PosePipeline(
        aggregate=ExportedAggregator(aggregate) if exported else aggregate,
        decode=decode,
        steps=[instantiate(node, **facts) for node in config.postprocess.values() if node is not None],
        batch_size=config.batch_size,
    )


def settings_of(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> DictConfig:
    """The test-time settings of a checkpoint, with overrides such as ``aggregate.flip=false``.

    Raises:
        ValueError: an override does not match a setting.
    """
    groups = {name: checkpoint.config[name] for name in TEST_TIME_GROUPS}
    settings = OmegaConf.create(groups | {"batch_size": 8})
    OmegaConf.set_struct(settings, True)
    nodes = (settings.aggregate, settings.decode, settings.postprocess, *settings.grouping.values())
    for node in filter(OmegaConf.is_config, nodes):  # need not list all parameters of their constructors
        OmegaConf.set_struct(node, False)
    try:
        merged = OmegaConf.merge(settings, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        known = OmegaConf.to_yaml(settings)
        raise ValueError(f"cannot apply {list(overrides)} ({error}); the settings are:\n{known}") from error
    assert isinstance(merged, DictConfig)
    return merged
