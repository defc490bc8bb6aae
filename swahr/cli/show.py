"""``swahr show``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from swahr.build import build_source
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.cli.command import fresh_folder, report, run_command
from swahr.cli.inputs import expand_inputs, inputs_as_override
from swahr.data import RandomAffine, collate, read_image
from swahr.draw import draw_annotations, draw_poses, map_panels, write_image
from swahr.inference import TorchNetwork
from swahr.nodes import create
from swahr.predictor import Predictor
from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage

Picture = npt.NDArray[np.uint8]

_STRIDES = (4, 2)  # what to show of the targets where no network says otherwise


def show(config: DictConfig) -> None:
    """Draw one figure an image: what is taught (with annotations) and what is said (with a model)."""
    checkpoint = load_checkpoint(config.checkpoint) if config.checkpoint else None
    if checkpoint is None and config.inputs:
        raise ValueError(
            "images without annotations can only be shown with a model: add checkpoint=<file>, or leave the "
            "images out to see the targets of validation images"
        )
    if checkpoint is not None and checkpoint.is_exported:
        raise ValueError(f"{checkpoint.path}: expected a .safetensors or .ckpt, to look inside the network")
    folder = fresh_folder(config.output)
    written = []
    for name, figure in _figures(config, checkpoint):
        written.append(str(write_image(folder / f"{name}.png", figure)))
    report({"pictures": written})


def _figures(config: DictConfig, checkpoint: Checkpoint | None) -> Iterator[tuple[str, Picture]]:
    predictor = None
    if checkpoint is not None:
        predictor = Predictor.with_settings(checkpoint, config, device=config.device)
    if predictor is not None and config.inputs:
        for number, file in enumerate(expand_inputs(config.inputs)):
            image = read_image(file)
            yield (
                f"{number:03d}_{file.stem}",
                _figure(config, _unlabelled(image, predictor), predictor.skeleton, predictor),
            )
        return
    source = build_source(config.data.module.val, config.data.skeleton)
    if checkpoint is not None:
        checkpoint.check_skeleton(source.skeleton, source="the validation data")
    yield f"{config.index:06d}", _figure(config, source[config.index], source.skeleton, predictor)


def _unlabelled(image: Picture, predictor: Predictor) -> LabelledImage:
    k = predictor.skeleton.num_keypoints
    nobody = Annotations(
        keypoints=np.zeros((0, k, 2)), visibility=np.zeros((0, k), dtype=np.int64), area=np.zeros(0)
    )
    return LabelledImage(image, nobody, np.ones(image.shape[:2], dtype=np.bool_), image_id=0)


def _figure(
    config: DictConfig, labelled: LabelledImage, skeleton: Skeleton, predictor: Predictor | None
) -> Picture:
    """Everything in the network's input frame, so that maps and image lie upon each other."""
    still = RandomAffine(
        input_size=config.data.module.augmentation.input_size,
        rotation=0.0,
        scaling=(1.0, 1.0),
        scaling_reference="long",
        translation=0.0,
        flip=0.0,
    )
    sample = still(labelled, skeleton=skeleton, rng=np.random.default_rng(0))
    batch = collate([sample])
    network = predictor.network if predictor is not None else None
    encode = create(config.target, strides=network.strides if isinstance(network, TorchNetwork) else _STRIDES)
    output = network(batch.images.to(network.device)) if isinstance(network, TorchNetwork) else ()
    if predictor is not None:
        drawn = draw_poses(sample.image, predictor(sample.image))
    else:
        drawn = draw_annotations(sample.image, sample.annotations, skeleton)
    return map_panels(
        sample.image,
        names=skeleton.keypoints,
        drawn=drawn,
        targets=encode(batch).maps if len(sample.annotations) else (),
        output=output,
    )


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = inputs_as_override(sys.argv[1:])
    run_command("show", show)
