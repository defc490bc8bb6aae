"""`Predictor`, the Python API of a trained network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf

from swahr.build import (
    build_network_from,
    build_pipeline,
    network_facts,
    settings_of,
    skeleton_facts,
    target_facts,
)
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.images import check_image, read_image
from swahr.inference import ExportedNetwork, TorchNetwork, open_exported
from swahr.pipeline import PosePipeline
from swahr.skeleton import Skeleton
from swahr.structures import Poses

_IN_THE_GRAPH = (  # settings that are fixed when a network is exported
    "aggregate.test_scales",
    "aggregate.flip",
    "aggregate.project",
    "aggregate.alignment",
    "grouping.peaks",
)
RUN_SETTINGS = ("device", "precision", "channels_last", "compile", "backend")
"""Settings of the commands that select where and how a network runs."""

ImageLike = str | os.PathLike[str] | npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """Predicts people and their keypoints in images.

    >>> predictor = Predictor.from_checkpoint("best.safetensors")  # doctest: +SKIP
    >>> poses = predictor("street.jpg")  # doctest: +SKIP
    >>> poses.keypoints.shape  # people, keypoints, (x, y) in pixels of the image  # doctest: +SKIP

    Args:
        network: predicts the maps that ``pipeline`` decodes.
        pipeline: converts images to poses (`swahr.pipeline.PosePipeline`).
        skeleton: the keypoints that the network predicts.
        device: the network's device.
    """

    network: TorchNetwork | ExportedNetwork
    pipeline: PosePipeline
    skeleton: Skeleton
    device: torch.device

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | Checkpoint,
        *,
        overrides: Sequence[str] = (),
        trust: Iterable[str] = (),
        **run: Any,
    ) -> Predictor:
        """Load a checkpoint with its own test-time settings.

        Args:
            path: a ``.safetensors`` or ``.ckpt``, an exported ``.onnx``, or a loaded checkpoint.
            overrides: changes to the test-time settings, such as ``["aggregate.flip=false"]``.
            trust: packages whose classes the file may name besides those of swahr. They can run any code.
            run: ``device``, ``precision``, ``channels_last`` and ``compile`` of
                `swahr.inference.TorchNetwork`, or ``backend`` and ``precision`` of
                `swahr.inference.open_exported`.

        Raises:
            FileNotFoundError: the file does not exist.
            ImportError: the backend of an exported network is not installed.
            ValueError: the file is damaged, of another architecture, or names a class that is not trusted; or
                an override does not match a setting.
        """
        checkpoint = path if isinstance(path, Checkpoint) else load_checkpoint(path, trust=trust)
        return cls.with_settings(checkpoint, settings_of(checkpoint, overrides), **run)

    @classmethod
    def with_settings(cls, checkpoint: Checkpoint, settings: DictConfig, **run: Any) -> Predictor:
        """Load a checkpoint with other test-time settings, composed as by `swahr.build.settings_of`."""
        facts = skeleton_facts(checkpoint.skeleton) | target_facts(checkpoint.config["targets"])
        network: TorchNetwork | ExportedNetwork
        if checkpoint.is_exported:
            _check_exported_settings(checkpoint, settings)
            network, device = _exported(checkpoint, **run)
            facts |= {name: checkpoint.facts[name] for name in ("strides", "size_multiple")}
        else:
            if backend := run.pop("backend", None):
                raise ValueError(f"{checkpoint.path}: expected an exported .onnx file for backend={backend}")
            network = TorchNetwork(build_network_from(checkpoint), **run)
            device = network.device
            facts |= network_facts(network)
        pipeline = build_pipeline(settings, facts, exported=checkpoint.is_exported)
        return cls(network=network, pipeline=pipeline, skeleton=checkpoint.skeleton, device=device)

    def __call__(self, image: ImageLike) -> Poses:
        """Return the poses in one image: a file, or an RGB array ``(H W 3)`` of uint8."""
        return self.predict([image])[0]

    def predict(self, images: Iterable[ImageLike]) -> list[Poses]:
        """Return the poses in several images of any sizes; images of similar shape are batched."""
        return list(self.stream(images))

    def stream(self, images: Iterable[ImageLike]) -> Iterator[Poses]:
        """Yield the poses in each image, in order; only a few images are in memory at a time."""
        return self.pipeline.stream(self.network, map(_as_array, images), self.device)


def _check_exported_settings(checkpoint: Checkpoint, settings: DictConfig) -> None:
    for key in _IN_THE_GRAPH:
        wanted, inside = (OmegaConf.select(OmegaConf.create(c), key) for c in (settings, checkpoint.config))
        if wanted != inside:
            raise ValueError(
                f"{checkpoint.path} was exported with {key}={inside}, which is fixed in the file; to use "
                f"{wanted}, export the network again with that setting"
            )


def _exported(
    checkpoint: Checkpoint,
    *,
    device: str | torch.device | None = None,
    compile: bool = False,  # noqa: A002 - PyTorch's own word
    channels_last: bool = True,  # noqa: ARG001 - the backend chooses the memory layout
    **run: Any,
) -> tuple[ExportedNetwork, torch.device]:
    if torch.device(device or "cpu").type != "cpu" or compile:
        raise ValueError(
            f"{checkpoint.path}: an exported network runs on the CPU and is not compiled by PyTorch; remove "
            "device and compile, or use the .safetensors checkpoint"
        )
    return open_exported(checkpoint.path, **run), torch.device("cpu")


def _as_array(image: ImageLike) -> npt.NDArray[np.uint8]:
    if not isinstance(image, np.ndarray):
        return read_image(Path(image))
    check_image(image)
    return image
