"""The composition root: configuration in, objects out. Nothing below it and `swahr.nodes` knows Hydra.

What several components must agree on (the number of keypoints, flip order, strides, which maps the loss
needs) is not written in YAML twice but passed from one object to the next here; `RUNTIME_FACTS` names those
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from swahr.checkpoint import Checkpoint, describe_run, start_from
from swahr.data import PoseDataModule
from swahr.decode import Decoder
from swahr.evaluation import results_from_poses
from swahr.inference import ExportedAggregator
from swahr.model import HigherHRNet
from swahr.nodes import create
from swahr.pipeline import PosePipeline
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.stamp import make_stamp
from swahr.structures import Poses
from swahr.training import (
    EmaWeights,
    ExportBest,
    PlotCurves,
    PoseModule,
    PredictionPictures,
    ProgressBar,
    SaveOnInterrupt,
    StampCheckpoints,
    Throughput,
    prepare_network,
)

RUNTIME_FACTS: dict[str, frozenset[str]] = {
    "swahr.data.CocoSource": frozenset({"skeleton"}),
    "swahr.data.SyntheticSource": frozenset({"skeleton"}),
    "swahr.data.PoseDataModule": frozenset({"seed"}),
    "swahr.target.TargetEncoder": frozenset({"strides"}),
    "swahr.model.HigherHRNet": frozenset({"num_keypoints", "scale_head", "weight_head"}),
    "swahr.aggregate.Aggregator": frozenset({"flip_permutation"}),
    "swahr.grouping.AssociativeEmbedding": frozenset({"grouping_indices"}),
    "lightning.pytorch.Trainer": frozenset({"callbacks", "logger", "default_root_dir"}),
}
"""Parameters that no YAML lists, because this module passes them."""

TEST_TIME_GROUPS = ("aggregate", "grouping", "decode")
NETWORK_SWITCHES = ("channels_last", "compile", "activation_checkpointing")


def build_skeleton(name: str | None) -> Skeleton | None:
    """``coco``, ``crowdpose``, the path of a skeleton YAML, or None: the data say.

    Raises:
        FileNotFoundError: there is no such file.
    """
    known = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE)}
    if not name or name in known:
        return known[name] if name else None
    if not Path(name).is_file():
        raise FileNotFoundError(f"data.skeleton={name}: expected {', '.join(known)} or a skeleton YAML file")
    return Skeleton.from_yaml(name)


def build_source(node: DictConfig, skeleton: str | None) -> Any:
    """One source of labelled images."""
    built = build_skeleton(skeleton)
    return create(node, **({} if built is None else {"skeleton": built}))


def build_data(config: DictConfig) -> PoseDataModule:
    """Training and validation data, which must agree on the skeleton.

    Raises:
        ValueError: they do not.
    """
    node = config.data.module
    train, val = (build_source(node[part], config.data.skeleton) for part in ("train", "val"))
    if train.skeleton != val.skeleton:
        raise ValueError(
            f"the training data have the keypoints {list(train.skeleton.keypoints)} and the validation data "
            f"{list(val.skeleton.keypoints)}; both must come with the same `categories`, or set data.skeleton"
        )
    values = {name: value for name, value in node.items() if name not in ("train", "val")}
    module: PoseDataModule = create(OmegaConf.create(values), train=train, val=val, seed=config.seed)
    return module


def build_network(node: DictConfig, skeleton: Skeleton, criterion: Any) -> HigherHRNet:
    """A network for a skeleton, with the heads that the loss needs."""
    network: HigherHRNet = create(
        node,
        num_keypoints=skeleton.num_keypoints,
        scale_head=criterion.needs_scale_maps,
        weight_head=criterion.needs_weight_maps,
    )
    return network


def build_network_from(checkpoint: Checkpoint) -> HigherHRNet:
    """The network of a checkpoint, with its weights."""
    config = OmegaConf.create(checkpoint.config)
    network = build_network(config.model, checkpoint.skeleton, create(config.loss))
    checkpoint.load_into(network)
    return network


def build_pipeline(config: DictConfig, skeleton: Skeleton, *, exported: bool = False) -> PosePipeline:
    """The test-time pipeline, from the groups aggregate, grouping and decode.

    Args:
        config: has those groups.
        skeleton: of the network.
        exported: for a network that was exported, which merges maps and finds peaks itself.
    """
    aggregate = create(config.aggregate, flip_permutation=skeleton.flip_permutation)
    in_graph = ExportedAggregator(aggregate) if exported else None
    decode = Decoder(
        skeleton=skeleton,
        extract_peaks=in_graph.peaks if in_graph else create(config.grouping.peaks),
        group=create(config.grouping.groups, grouping_indices=skeleton.grouping_indices),
        refine=create(config.decode.refine),
        recover=create(config.decode.recover),
    )
    return PosePipeline(aggregate=in_graph or aggregate, decode=decode, batch_size=config.batch_size)


def settings_of(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> DictConfig:
    """The test-time settings of a checkpoint, with changes such as ``aggregate.flip=false``.

    Raises:
        ValueError: an override names no setting.
    """
    groups = {name: checkpoint.config[name] for name in TEST_TIME_GROUPS}
    settings = OmegaConf.create(groups | {"batch_size": 8})
    OmegaConf.set_struct(settings, True)
    try:
        merged = OmegaConf.merge(settings, OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        raise ValueError(
            f"cannot apply the overrides {list(overrides)} ({error}); the settings are:\n"
            f"{OmegaConf.to_yaml(settings)}"
        ) from error
    assert isinstance(merged, DictConfig)
    return merged


def build_evaluation(
    node: DictConfig, ground_truth: Mapping[str, Any], skeleton: Skeleton
) -> Callable[[Mapping[int, Poses]], dict[str, float]]:
    """A function from poses by image id to the protocol's figures, over exactly those images."""
    evaluator = create(node)

    def evaluate(poses: Mapping[int, Poses]) -> dict[str, float]:
        part = dict(ground_truth)
        part["images"] = [image for image in ground_truth["images"] if image["id"] in poses]
        part["annotations"] = [one for one in ground_truth["annotations"] if one["image_id"] in poses]
        figures: dict[str, float] = evaluator(part, results_from_poses(poses), skeleton)
        return figures

    return evaluate


@dataclass(frozen=True)
class TrainingRun:
    """The objects of one run of `swahr train`."""

    trainer: Trainer
    module: PoseModule
    data: PoseDataModule


def build_training(config: DictConfig, folder: Path) -> TrainingRun:
    """Everything that `swahr train` needs, from its configuration; files go to ``folder``."""
    _check_alignment(config)
    data = build_data(config)
    skeleton = data.train.skeleton
    criterion = create(config.loss)
    network = build_network(config.model, skeleton, criterion)
    if config.weights is not None:
        start_from(network, config.weights, skeleton)
    switches = {name: config.training[name] for name in NETWORK_SWITCHES}
    module = PoseModule(
        network=prepare_network(network, **switches),
        encode_targets=create(config.target, strides=network.strides),
        criterion=criterion,
        pipeline=build_pipeline(config, skeleton),
        evaluate=build_evaluation(config.evaluation, data.val.ground_truth(), skeleton),
        optimiser=create(config.training.optimiser),
        batch_size=data.batch_size,
    )
    annotations = annotation_files([config.data.module.train, config.data.module.val])
    stamp = make_stamp(seed=config.seed, files=[*annotations, *([config.weights] if config.weights else [])])
    description = describe(config, skeleton, stamp)
    trainer = create(
        config.trainer,
        callbacks=_callbacks(config, folder, data, description, stamp),
        logger=[
            CSVLogger(folder, name="", version=""),
            TensorBoardLogger(folder, name="", version="tensorboard"),
        ],
        default_root_dir=folder,
    )
    return TrainingRun(trainer, module, data)


def _check_alignment(config: DictConfig) -> None:
    """Maps must lie on the input at test time as they did in training."""
    if config.target.alignment != config.aggregate.alignment:
        raise ValueError(
            f"target.alignment={config.target.alignment} but "
            f"aggregate.alignment={config.aggregate.alignment}: expected the same, or every keypoint is "
            "found beside its place; choose target=official with aggregate=official, or neither"
        )


def describe(config: DictConfig, skeleton: Skeleton, stamp: Mapping[str, Any]) -> str:
    """What a checkpoint says of itself; its data stay unresolved, so that ``data.root`` can change later."""
    plain = {str(key): _resolved(value) for key, value in config.items() if key != "data"}
    return describe_run(
        {**plain, "data": OmegaConf.to_container(config.data, resolve=False)}, skeleton, stamp
    )


def _resolved(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def annotation_files(nodes: Sequence[DictConfig]) -> list[str]:
    """The annotation files that sources of images read."""
    return sorted({str(node.annotations) for node in nodes if node.get("annotations")})


def _callbacks(
    config: DictConfig, folder: Path, data: PoseDataModule, description: str, stamp: Mapping[str, Any]
) -> list[Callback]:
    decay = config.training.ema_decay
    averaged = EmaWeights(decay=decay) if decay is not None else None
    pictures = config.training.pictures
    footer = f"swahr {stamp['swahr']} {stamp['commit'] or ''} seed {stamp['seed']} {stamp['device']}"
    return [
        *([averaged] if averaged else []),
        ExportBest(folder=folder, description=description, averaged=averaged),
        StampCheckpoints(description=description),
        SaveOnInterrupt(folder=folder),
        Throughput(),
        PredictionPictures(
            source=data.val, folder=folder / "pictures", every=pictures.every, count=pictures.count
        ),
        PlotCurves(folder=folder, footer=footer),
        LearningRateMonitor(logging_interval="step"),
        ModelCheckpoint(
            dirpath=folder,
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
        ProgressBar(),
    ]
