"""Composition for training and evaluation: builds data, criterion, module, callbacks and Trainer."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf import DictConfig, OmegaConf
from torch import nn

from swahr.build import (
    TEST_TIME_GROUPS,
    build_network,
    build_pipeline,
    build_second_stage,
    build_skeleton,
    network_facts,
    skeleton_facts,
    target_facts,
)
from swahr.checkpoint import describe_run
from swahr.data.datamodule import PoseDataModule
from swahr.evaluation import check_evaluable, person_category, results_from_poses
from swahr.model.published import weights_file
from swahr.nodes import instantiate
from swahr.provenance import data_stamp, provenance
from swahr.skeleton import Skeleton
from swahr.structures import Poses
from swahr.training.execution import prepare_network
from swahr.training.initial_weights import start_from
from swahr.training.rehearsal import rehearsed
from swahr.training.run_files import MetricsFile, TensorBoardFiles, WholeCheckpoints
from swahr.trusted import is_reference_only
from swahr.weights import located

_log = logging.getLogger(__name__)

_DESCRIBED = ("model", "targets", *TEST_TIME_GROUPS, "evaluation", "expected")
_NETWORK_SWITCHES = ("channels_last", "compile", "activation_checkpointing")


def build_source(node: DictConfig, skeleton: str | Skeleton | None, *, insist: bool = False) -> Any:
    """A source of labelled images (`swahr.data.Source`); ``insist`` also on implausible annotations."""
    if not insist:
        return instantiate(node, **_data_facts(skeleton))
    values = {key: value for key, value in _plain(node).items() if key != "insist"}
    return instantiate(values, **_data_facts(skeleton), insist=True)


def build_data(config: DictConfig) -> PoseDataModule:
    """Training and validation data; raises ValueError unless both have the same keypoints."""
    module: PoseDataModule = instantiate(
        config.data.module, seed=config.seed, **_data_facts(config.data.skeleton)
    )
    return module


def _data_facts(skeleton: str | Skeleton | None) -> dict[str, Any]:
    built = build_skeleton(skeleton)
    return {} if built is None else {"skeleton": built}


def model_node(node: DictConfig, needs: frozenset[str]) -> dict[str, Any]:
    """A network's node with only those heads whose maps a loss needs.

    Args:
        node: the group ``model``, with a head for each map under ``heads``.
        needs: names of maps (`swahr.loss.Criterion.needs`).

    Raises:
        ValueError: there is no head for a needed map.
    """
    model: dict[str, Any] = _plain(node)
    if "heads" not in model:
        return model
    if missing := sorted(needs - model["heads"].keys()):
        raise ValueError(
            f"the loss needs the maps {missing}, but model.heads only has {', '.join(model['heads'])}; add a "
            f"head: model.heads.{missing[0]}._target_=…"
        )
    heads = {name: head for name, head in model["heads"].items() if name in needs | {"heatmaps"}}
    return {**model, "heads": heads}


def build_evaluation(
    node: DictConfig, ground_truth: Mapping[str, Any], skeleton: Skeleton
) -> Callable[[Mapping[int, Poses]], dict[str, float]]:
    """A function that returns the protocol's metrics, given the poses in each image by id.

    Raises:
        ValueError: the ground truth does not suit the protocol, or has nobody to find.
    """
    evaluator = instantiate(node)
    check_evaluable(evaluator, ground_truth, skeleton)
    category = person_category(ground_truth, skeleton)

    def evaluate(poses: Mapping[int, Poses]) -> dict[str, float]:
        # Only the given images count: training may limit validation to a part of them.
        images = [image for image in ground_truth["images"] if image["id"] in poses]
        annotations = [one for one in ground_truth["annotations"] if one["image_id"] in poses]
        part = {**ground_truth, "images": images, "annotations": annotations}
        metrics: dict[str, float] = evaluator(part, results_from_poses(poses, category_id=category), skeleton)
        return metrics

    return evaluate


@dataclass(frozen=True)
class TrainingRun:
    """The objects of one run of `swahr train`."""

    trainer: Trainer
    module: LightningModule
    data: PoseDataModule
    stamp: dict[str, Any]


def build_training(config: DictConfig, folder: Path) -> TrainingRun:
    """Build a run of `swahr train` from its configuration; the run writes to ``folder``."""
    data = build_data(config)
    criterion = instantiate(config.loss, **skeleton_facts(data.skeleton), **target_facts(config.targets))
    model = model_node(config.model, criterion.needs)
    network = build_network(model, data.skeleton)
    weights = _initialise(network, config, data.skeleton, partial(build_network, model))
    files = annotation_files([config.data.module.train, config.data.module.val])
    stamp = provenance(seed=config.seed, files=[*files, *weights])
    stamp |= data_stamp(train=data.train, val=data.val)
    description = describe(config, model, network_facts(network), data.skeleton, stamp)
    footer = f"swahr {stamp['swahr']} {stamp['commit'] or ''} seed {stamp['seed']} {stamp['device']}"
    callbacks = [
        instantiate(
            node, folder=folder, dirpath=folder, source=data.val, description=description, footer=footer
        )
        for node in config.training.callbacks.values()
        if node is not None
    ]
    describing = LambdaCallback(on_save_checkpoint=lambda *saved: saved[2].update(swahr=description))
    csv = MetricsFile(folder, name="", version="")
    tensorboard = TensorBoardFiles(folder, name="tensorboard", version="")
    trainer = _build_trainer(
        config.trainer,
        callbacks=[*callbacks, describing],
        logger=[csv, tensorboard],
        default_root_dir=folder,
        plugins=[WholeCheckpoints()],
    )
    with rehearsed("reading the first images"):
        data.try_first_images(processes=trainer.num_devices)
    with rehearsed("evaluation of the validation annotations"):
        evaluate = build_evaluation(config.evaluation, data.val.ground_truth(), data.skeleton)
    facts = skeleton_facts(data.skeleton) | target_facts(config.targets) | network_facts(network)
    module = instantiate(
        config.training.module,
        **facts,
        network=prepare_network(network, **{name: config.training[name] for name in _NETWORK_SWITCHES}),
        encode_targets=instantiate(config.targets, **facts),
        criterion=criterion,
        pipeline=build_pipeline(config, facts),
        second_stage=build_second_stage(config, facts),
        evaluate=evaluate,
        optimiser=instantiate(config.training.optimiser),
        batch_size=_largest_batch(data, trainer.world_size),
    )
    return TrainingRun(trainer, module, data, {**stamp, **settings(config)})


def _initialise(
    network: nn.Module, config: DictConfig, skeleton: Skeleton, build: Callable[[Skeleton], nn.Module]
) -> list[Path]:
    """Load the initial weights, if there are any; returns their files."""
    keypoints = config.weights_keypoints
    if config.weights is None:
        if keypoints != "same":
            raise ValueError(f"weights_keypoints={keypoints}: expected weights=…, got none; set it")
        return []
    path = located(weights_file(config.weights))
    start_from(network, path, skeleton, keypoints=keypoints, build=build)
    return [path]


def _build_trainer(node: DictConfig, **parts: Any) -> Trainer:
    """A Trainer that will train and validate."""
    least_one = ("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches")
    for name in (*least_one, "check_val_every_n_epoch"):
        if node.get(name) == 0:
            raise ValueError(f"trainer.{name}: expected more than 0, got 0, which trains nothing; raise it")
    if not isinstance(node.max_epochs, int):
        raise ValueError(  # noqa: TRY004 - the setting is wrong, not a caller's type
            f"trainer.max_epochs: expected a number of epochs, or -1 for no limit, got {node.max_epochs!r}"
        )
    try:
        trainer: Trainer = instantiate(node, **parts)
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(
            f"trainer.accelerator={node.get('accelerator')}, trainer.devices={node.get('devices')}: {error} "
            f"This machine has {torch.cuda.device_count()} CUDA devices; accelerator=auto devices=1 fit any"
        ) from error
    return trainer


def _largest_batch(data: PoseDataModule, world_size: int) -> int:
    """Images per process and batch: fewer than configured if there are not as many."""
    size = min(data.batch_size, max(1, len(data.train) // world_size))
    if size < data.batch_size:
        _log.warning("data.module.batch_size=%d, but the only batch has %d images", data.batch_size, size)
    return size


def describe(
    config: DictConfig,
    model: Mapping[str, Any],
    facts: Mapping[str, Any],
    skeleton: Skeleton,
    stamp: Mapping[str, Any],
) -> str:
    """The description in a run's checkpoints.

    Args:
        config: the run's configuration, recorded as text.
        model: the network's node, with the heads that were built.
        facts: see `swahr.build.network_facts`.
        skeleton: the keypoints that the network predicts.
        stamp: see `swahr.provenance.provenance`.
    """
    whole = _whole(config)
    groups = {name: whole[name] for name in (*_DESCRIBED, "data")} | {"model": dict(model)}
    groups |= {"second_stage": whole["second_stage"]} if whole.get("second_stage") else {}
    facts = {**facts, "strides": list(facts["strides"])}
    return describe_run(groups, facts, skeleton, {**stamp, **settings(config)})


def settings(config: DictConfig) -> dict[str, Any]:
    """A run's configuration as text, its overrides and the options of its groups, for stamps.

    Without Hydra there are no overrides and options.
    """
    overrides: list[str] = []
    choices: dict[str, str] = {}
    if HydraConfig.initialized():
        run = HydraConfig.get()
        overrides = list(run.overrides.task)
        choices = {key: value for key, value in run.runtime.choices.items() if not key.startswith("hydra/")}
    text = OmegaConf.to_yaml(OmegaConf.create(_whole(config)))
    return {"config": text, "overrides": overrides, "choices": choices}


def _whole(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values, resolved except for references in its data."""
    whole = {str(name): _plain(value) for name, value in config.items() if name != "data"}
    return {**whole, "data": _with_references(config, "data")}


def annotation_files(nodes: Sequence[DictConfig]) -> list[str]:
    """The annotation files of sources of images."""
    return sorted({str(node.annotations) for node in nodes if node.get("annotations")})


def _plain(value: Any, *, resolve: bool = True) -> Any:
    return OmegaConf.to_container(value, resolve=resolve) if OmegaConf.is_config(value) else value


def _with_references(config: DictConfig, group: str) -> Any:
    """A group in which references are kept, so that ``data.root`` can change, but resolvers are resolved."""

    def walk(raw: Any, path: str) -> Any:
        if isinstance(raw, dict):
            return {key: walk(value, f"{path}.{key}") for key, value in raw.items()}
        if isinstance(raw, list):
            return [walk(value, f"{path}[{i}]") for i, value in enumerate(raw)]
        return raw if is_reference_only(raw) else _plain(OmegaConf.select(config, path))

    return walk(_plain(config[group], resolve=False), group)
