"""``swahr show``."""

from collections.abc import Iterator

import numpy as np
from omegaconf import DictConfig

from swahr.build import chosen_skeleton, skeleton_facts
from swahr.build_data import build_source
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.choices import check_setting
from swahr.cli.command import fresh_folder, report
from swahr.cli.inputs import expand_inputs, picture_names
from swahr.cli.problems import raise_problems
from swahr.data import RandomAffine, collate
from swahr.draw import draw_annotations, draw_poses
from swahr.draw.palette import Picture
from swahr.draw.panels import map_panels
from swahr.images import read_image, write_image
from swahr.inference import TorchNetwork
from swahr.nodes import instantiate
from swahr.predictor import Predictor, located
from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage, NetworkOutput

_STRIDES = (4, 2)  # of the targets, if there is no network


def show(config: DictConfig) -> None:
    """Draw one figure per image, with targets (if annotated) and predicted maps (if there is a checkpoint).

    Raises:
        ValueError: the images have no annotations and there is no checkpoint, or it is an exported one.
    """
    checkpoint = load_checkpoint(config.checkpoint, trust=config.trust or ()) if config.checkpoint else None
    if checkpoint is None and config.inputs:
        raise ValueError(
            "images without annotations can only be shown with a model: add checkpoint=<file>, or leave the "
            "images out to see the targets of validation images"
        )
    if checkpoint is not None and checkpoint.is_exported:
        raise ValueError(f"{checkpoint.path}: expected a .safetensors or .ckpt, for the maps of the network")
    check_setting("index", config.index, int)
    folder = fresh_folder(config.output)
    pictures: list[str] = []
    problems: list[str] = []
    for name, picture in _figures(config, checkpoint):
        if isinstance(picture, Exception):
            problems.append(str(located(picture, name)))
        else:
            pictures.append(str(write_image(folder / f"{name}.png", picture)))
    total = len(pictures) + len(problems)
    raise_problems(problems, summary=f"{len(problems)} of {total} files skipped", folder=folder)
    report({"pictures": pictures})


def _figures(config: DictConfig, checkpoint: Checkpoint | None) -> Iterator[tuple[str, Picture | Exception]]:
    """Figures by name; errors in single images by file."""
    predictor = None
    if checkpoint is not None:
        predictor = Predictor.with_settings(checkpoint, config, device=config.device)
    if predictor is not None and config.inputs:
        files = expand_inputs(config.inputs)
        for number, (file, name) in enumerate(picture_names(files).items()):
            try:
                labelled = _unlabelled(read_image(file), predictor)
                figure = _figure(config, labelled, predictor.skeleton, predictor)
            except Exception as error:
                yield str(file), error
            else:
                yield f"{number:03d}_{name}", figure
        return
    skeleton = config.data.skeleton
    if checkpoint is not None:
        skeleton = chosen_skeleton(skeleton, checkpoint)
    source = build_source(config.data.module.val, skeleton, insist=True)
    if checkpoint is not None:
        checkpoint.check_skeleton(source.skeleton, source="the validation data")
    if config.index < 0 or (config.index >= len(source) and not source.unbounded):
        raise ValueError(f"index={config.index}: expected 0 to {len(source) - 1}, the validation images")
    yield f"{config.index:06d}", _figure(config, source[config.index], source.skeleton, predictor)


def _unlabelled(image: Picture, predictor: Predictor) -> LabelledImage:
    k = predictor.skeleton.num_keypoints
    empty = Annotations(np.zeros((0, k, 2)), np.zeros((0, k), dtype=np.int64), np.zeros(0))
    return LabelledImage(image, empty, np.ones(image.shape[:2], dtype=np.bool_), image_id=0)


def _figure(
    config: DictConfig, labelled: LabelledImage, skeleton: Skeleton, predictor: Predictor | None
) -> Picture:
    """A figure in the network's input frame, in which maps and image coincide."""
    size = config.data.module.augmentation.input_size
    still = RandomAffine(
        input_size=size, rotation=0.0, scaling=(1.0, 1.0), scaling_reference="long", translation=0.0, flip=0.0
    )
    sample = still(labelled, skeleton=skeleton, rng=np.random.default_rng(0))
    batch = collate([sample])
    strides: tuple[int, ...] = _STRIDES
    output: NetworkOutput = ()
    drawn = draw_annotations(sample.image, sample.annotations, skeleton)
    if predictor is not None:
        network = predictor.network
        assert isinstance(network, TorchNetwork)
        strides, output = network.strides, network(batch.images.to(network.device))
        drawn = draw_poses(sample.image, predictor(sample.image))
    encode = instantiate(config.targets, **skeleton_facts(skeleton), strides=strides)
    targets = encode(batch).maps if len(sample.annotations) else ()
    return map_panels(sample.image, names=skeleton.keypoints, drawn=drawn, targets=targets, output=output)
