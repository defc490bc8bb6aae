"""Composition for prediction: builds a network and its test-time pipeline from a configuration.

Values that several components share (number of keypoints, flip order, strides, Gaussian width) are *facts*:
every constructor with a parameter of that name receives them (see `swahr.nodes.instantiate`), so that YAML
files do not repeat them. `swahr.training.build` composes training.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.choices import check_setting
from swahr.inference import (
    Backend,
    ExportedAggregator,
    Precision,
    TorchNetwork,
    exported_peaks,
    open_exported,
)
from swahr.nodes import instantiate
from swahr.pipeline import Image, PosePipeline, Step
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import Maps, NetworkOutput, Poses
from swahr.weights import located

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


def model_node(node: DictConfig | Mapping[str, Any], needs: frozenset[str]) -> dict[str, Any]:
    """A network's node with only those heads whose maps a loss needs.

    Args:
        node: the group ``model``, with a head for each map under ``heads``, or around such a ``network``, to
            which heads beside it are added.
        needs: names of maps (`swahr.loss.Criterion.needs`).

    Raises:
        ValueError: there is no head for a needed map.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    model: dict[str, Any] = dict(plain)
    if isinstance(network := model.get("network"), Mapping):
        if "heads" in model:
            network = {**network, "heads": {**network.get("heads", {}), **model.pop("heads")}}
        return {**model, "network": model_node(network, needs)}
    if "heads" not in model:
        return model
    if missing := sorted(needs - model["heads"].keys()):
        raise ValueError(
            f"the loss needs the maps {missing}, but model.heads only has {', '.join(model['heads'])}; add a "
            f"head: model.heads.{missing[0]}._target_=…"
        )
    heads = {name: head for name, head in model["heads"].items() if name in needs | {"heatmaps"}}
    return {**model, "heads": heads}


def build_network_from(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint, with its weights loaded."""
    network = build_network(checkpoint.config["model"], checkpoint.skeleton)
    checkpoint.load_into(network)
    return network


def build_pipeline(
    config: DictConfig,
    facts: Mapping[str, Any],
    *,
    exported: bool = False,
    second_stage: Step | None = None,
) -> PosePipeline:
    """The test-time pipeline.

    Args:
        config: a configuration with the groups of `TEST_TIME_GROUPS` and ``batch_size``.
        facts: facts about the skeleton, the targets and the network.
        exported: whether the network is exported; it then merges maps and finds peaks itself.
        second_stage: the first step after decoding (`second_stage_step`).

    Raises:
        ValueError: the configuration has a second stage, but none is given.
    """
    if _of_second_stage(config, "checkpoint") is not None and second_stage is None:
        raise ValueError(
            "expected second_stage=none, as this command runs the first stage alone; `swahr evaluate` and "
            "`swahr predict` run both"
        )
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
        steps=[
            *([] if second_stage is None else [second_stage]),
            *(instantiate(node, **facts) for node in config.postprocess.values() if node is not None),
        ],
        batch_size=config.batch_size,
    )


def build_second_stage(config: DictConfig | Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """How a single-person network is used (`swahr.second_stage.SecondStage`); None without its settings."""
    if not config["second_stage"]:
        return None
    refine = instantiate(config["decode"]["refine"], **facts)
    return instantiate(config["second_stage"], **facts, refine=refine)


def second_stage_files(settings: DictConfig) -> list[Path]:
    """The files of the second stage in test-time settings: its checkpoint, and a fitted deformation."""
    checkpoint, deformation = (_of_second_stage(settings, name) for name in ("checkpoint", "deformation"))
    files = [] if checkpoint is None else [located(checkpoint)]
    return files if deformation is None else [*files, Path(str(deformation))]


def _of_second_stage(settings: DictConfig, name: str) -> Any:
    return (settings.get("second_stage") or {}).get(name)


def second_stage_step(
    settings: DictConfig,
    skeleton: Skeleton,
    *,
    trust: Iterable[str] = (),
    decode: Any = None,
    **run: Any,
) -> Callable[..., list[Poses]] | None:
    """The `Step` that runs the single-person network of ``second_stage.checkpoint``; None without one.

    If the poses are annotated, its third argument is the images' ids.

    Args:
        settings: test-time settings. Values of ``second_stage`` replace those of the network's training.
        skeleton: the keypoints of the first stage.
        trust: see `swahr.checkpoint.load_checkpoint`.
        decode: settings whose ``refine`` replaces that of the network's training.
        run: arguments of `swahr.inference.TorchNetwork`, or ``backend`` of an exported network.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        ValueError: it is damaged, of a bottom-up network or for other keypoints, or a setting is wrong.
    """
    if (file := _of_second_stage(settings, "checkpoint")) is None:
        for name in settings.get("second_stage") or ():
            if (value := _of_second_stage(settings, name)) is not None:
                raise ValueError(
                    f"second_stage.{name}={value}: expected a second stage, got none; add "
                    "second_stage=crops second_stage.checkpoint=…, in Python second_stage=…"
                )
        return None
    checkpoint = load_checkpoint(located(file), trust=trust)
    checkpoint = checkpoint.second_stage or checkpoint
    check_finds_one_person(checkpoint, skeleton)
    network, facts, device = _person_network(checkpoint, **run)
    changes: Any = OmegaConf.to_container(settings.second_stage, resolve=True)
    changes = {key: value for key, value in changes.items() if key != "checkpoint" and value is not None}
    config = checkpoint.config | {"second_stage": checkpoint.config["second_stage"] | changes}
    config |= {} if decode is None else {"decode": decode}
    facts |= skeleton_facts(checkpoint.skeleton) | target_facts(config["targets"])
    stage = build_second_stage(config, facts)

    def step(
        images: Sequence[Image], poses: list[Poses], annotated: Sequence[int] | None = None
    ) -> list[Poses]:
        refined: list[Poses] = stage(network, images, poses, device, annotated=annotated)
        return refined

    return step


def _person_network(
    checkpoint: Checkpoint, *, precision: Precision = "fp32", backend: Backend | None = None, **run: Any
) -> tuple[Callable[..., NetworkOutput], dict[str, Any], torch.device]:
    """A single-person network of any file, facts about it, and its device."""
    if not checkpoint.is_exported:
        network = TorchNetwork(build_network_from(checkpoint), precision=precision, **run)
        return network, network_facts(network), network.device
    graph = open_exported(checkpoint.path, precision=precision, backend=backend)
    facts, stride = {"size_multiple": checkpoint.facts["size_multiple"]}, checkpoint.facts["strides"][-1]

    def network_output(crops: Tensor, *condition: Tensor) -> NetworkOutput:
        fields = graph(crops, *condition)
        # Without maps of other packages, whose kinds are defined beside heads that nobody imported.
        return (Maps(stride, {name: one for name, one in fields.items() if hasattr(Maps, name)}),)

    return network_output, facts, torch.device("cpu")


def is_of_one_person(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's network finds one person in a crop, rather than all people in an image."""
    return "_target_" in checkpoint.config.get("second_stage", {})


def check_finds_one_person(checkpoint: Checkpoint, skeleton: Skeleton) -> None:
    """Raise ValueError unless a checkpoint is of a single-person network for the first stage's keypoints."""
    if not is_of_one_person(checkpoint):
        raise ValueError(
            f"{checkpoint.path}: expected a single-person network as the second stage, got a bottom-up "
            "network; train one with `swahr train experiment=person`"
        )
    checkpoint.check_skeleton(skeleton, source="the first stage")


def check_finds_all_people(checkpoint: Checkpoint) -> None:
    """Raise ValueError unless a checkpoint is of a bottom-up network."""
    if is_of_one_person(checkpoint):
        raise ValueError(
            f"{checkpoint.path}: expected a bottom-up network, got a single-person network; use it as "
            "second_stage.checkpoint beside a bottom-up network"
        )


def settings_of(
    checkpoint: Checkpoint,
    overrides: Sequence[str] = (),
    *,
    second_stage: str | os.PathLike[str] | None = None,
) -> DictConfig:
    """The test-time settings of a checkpoint, with overrides such as ``aggregate.flip=false``.

    ``second_stage`` is the checkpoint of a single-person network; the default is that in the same file.

    Raises:
        ValueError: an override does not match a setting.
    """
    groups = {name: checkpoint.config[name] for name in TEST_TIME_GROUPS}
    second = checkpoint.config.get("second_stage", {})
    if second_stage is not None:
        second = {"checkpoint": os.fspath(second_stage)}
    settings = OmegaConf.create(groups | {"second_stage": second, "batch_size": 8})
    OmegaConf.set_struct(settings, True)
    names = ("aggregate", "decode", "postprocess", "second_stage")
    nodes = (*(settings[name] for name in names), *settings.grouping.values())
    for node in filter(OmegaConf.is_config, nodes):  # need not list all parameters of their constructors
        OmegaConf.set_struct(node, False)
    try:
        merged = OmegaConf.merge(settings, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        known = OmegaConf.to_yaml(settings)
        raise ValueError(f"cannot apply {list(overrides)} ({error}); the settings are:\n{known}") from error
    assert isinstance(merged, DictConfig)
    return merged
