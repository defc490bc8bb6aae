"""Composition of training: data, criterion, network, module and Trainer, from one configuration."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from omegaconf import DictConfig

from swahr.build import (
    build_network,
    build_pipeline,
    build_second_stage,
    model_node,
    network_facts,
    skeleton_facts,
    target_facts,
)
from swahr.build_data import annotation_files, build_data, build_evaluation
from swahr.data.datamodule import PoseDataModule
from swahr.execution import prepare_network
from swahr.nodes import instantiate
from swahr.provenance import data_stamp, provenance
from swahr.rehearsal import rehearsed
from swahr.runs.description import describe, settings
from swahr.runs.initial_weights import load_initial
from swahr.runs.trainer import build_trainer

_NETWORK_SWITCHES = ("channels_last", "compile", "activation_checkpointing")


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
    weights = load_initial(
        network,
        config.weights,
        data.skeleton,
        keypoints=config.weights_keypoints,
        build=partial(build_network, model),
    )
    files = annotation_files([config.data.module[part] for part in ("train", "val", "augmentation")])
    stamp = provenance(seed=config.seed, files=[*files, *weights])
    stamp |= data_stamp(train=data.train, val=data.val)
    description = describe(config, model, network_facts(network), data.skeleton, stamp)
    trainer = build_trainer(config, folder, source=data.val, description=description, stamp=stamp)
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
        batch_size=data.largest_batch(trainer.world_size),
    )
    return TrainingRun(trainer, module, data, {**stamp, **settings(config)})
