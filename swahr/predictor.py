"""The Python API: a trained network as a function from images to poses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf

from swahr.build import build_network_from, build_pipeline, settings_of
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.data import read_image
from swahr.inference import Backend, ExportedNetwork, Precision, TorchNetwork, open_exported
from swahr.pipeline import PosePipeline
from swahr.skeleton import Skeleton
from swahr.structures import Poses

_IN_THE_GRAPH = (  # of an exported network; everything else of the test time can still be chosen
    "aggregate.test_scales",
    "aggregate.flip",
    "aggregate.project",
    "aggregate.alignment",
    "grouping.peaks",
)
RUN_SETTINGS = ("device", "precision", "channels_last", "compile", "backend")
"""Where and how a network runs, as the commands' configurations have it."""

ImageLike = str | os.PathLike[str] | npt.NDArray[np.uint8]


class Predictor:
    """Finds people and their keypoints in images.

    >>> predictor = Predictor.from_checkpoint("best.safetensors")  # doctest: +SKIP
    >>> poses = predictor("street.jpg")  # doctest: +SKIP
    >>> poses.keypoints.shape  # people, keypoints, (x, y) in pixels of the image  # doctest: +SKIP

    Args:
        network: images to what ``pipeline`` reads.
        pipeline: images to poses, given a network.
        skeleton: the keypoints of the network.
        device: where the network runs.
    """

    def __init__(
        self,
        *,
        network: TorchNetwork | ExportedNetwork,
        pipeline: PosePipeline,
        skeleton: Skeleton,
        device: torch.device,
    ) -> None:
        self.network = network
        self.pipeline = pipeline
        self.skeleton = skeleton
        self.device = device

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | Checkpoint,
        *,
        overrides: Sequence[str] = (),
        **run: Any,
    ) -> Predictor:
        """Load a checkpoint with the test-time settings it was trained or exported with.

        Args:
            path: a ``.safetensors`` or ``.ckpt``, an exported ``.onnx``, or a checkpoint already read.
            overrides: changes to the test-time settings, such as ``["aggregate.flip=false"]``.
            run: where and how the network runs: ``device``, ``precision``, ``channels_last`` and ``compile``
                (see `swahr.inference.TorchNetwork`), ``backend`` of an exported one (see
                `swahr.inference.open_exported`).

        Raises:
            FileNotFoundError: no such file.
            ImportError: the backend of an exported network is not installed.
            ValueError: the file is damaged, of another architecture, or an override names no setting.
        """
        checkpoint = path if isinstance(path, Checkpoint) else load_checkpoint(path)
        return cls.with_settings(checkpoint, settings_of(checkpoint, overrides), **run)

    @classmethod
    def with_settings(cls, checkpoint: Checkpoint, settings: DictConfig, **run: Any) -> Predictor:
        """A checkpoint's network with test-time settings of one's own, as the commands compose them."""
        network: TorchNetwork | ExportedNetwork
        if checkpoint.is_exported:
            _check_exported_settings(checkpoint, settings)
            network, device = _exported(checkpoint, **run)
        else:
            network, device = _in_torch(checkpoint, **run)
        pipeline = build_pipeline(settings, checkpoint.skeleton, exported=checkpoint.is_exported)
        return cls(network=network, pipeline=pipeline, skeleton=checkpoint.skeleton, device=device)

    def __call__(self, image: ImageLike) -> Poses:
        """Find the people in one image: a file, or an RGB array ``(H W 3)`` of uint8."""
        return self.predict([image])[0]

    def predict(self, images: Iterable[ImageLike]) -> list[Poses]:
        """Find the people in several images of any sizes; those of like shape run as batches."""
        return list(self.stream(images))

    def stream(self, images: Iterable[ImageLike]) -> Iterator[Poses]:
        """The same, one after the other, of any number of images: few are held in memory at a time."""
        return self.pipeline.stream(self.network, map(_as_array, images), self.device)


def _in_torch(
    checkpoint: Checkpoint, *, backend: Backend | None = None, **run: Any
) -> tuple[TorchNetwork, torch.device]:
    if backend is not None:
        raise ValueError(f"{checkpoint.path}: expected an exported .onnx file for backend={backend}")
    network = TorchNetwork(build_network_from(checkpoint), **run)
    return network, network.device


def _check_exported_settings(checkpoint: Checkpoint, settings: DictConfig) -> None:
    for key in _IN_THE_GRAPH:
        wanted, inside = (OmegaConf.select(OmegaConf.create(c), key) for c in (settings, checkpoint.config))
        if wanted != inside:
            raise ValueError(
                f"{checkpoint.path} was exported with {key}={inside}, which is part of it now and cannot "
                f"become {wanted}; export the network again with that setting"
            )


def _exported(
    checkpoint: Checkpoint,
    *,
    backend: Backend | None = None,
    precision: Precision = "fp32",
    device: str | torch.device | None = None,
    compile: bool = False,  # noqa: A002 - PyTorch's own word
    channels_last: bool = True,  # noqa: ARG001 - the backend lays out memory itself
) -> tuple[ExportedNetwork, torch.device]:
    if torch.device(device or "cpu").type != "cpu" or compile:
        raise ValueError(
            f"{checkpoint.path}: an exported network runs on the CPU, and is not compiled by PyTorch; leave "
            "device and compile alone, or use the .safetensors checkpoint"
        )
    return open_exported(checkpoint.path, backend=backend, precision=precision), torch.device("cpu")


def _as_array(image: ImageLike) -> npt.NDArray[np.uint8]:
    if not isinstance(image, np.ndarray):
        return read_image(Path(image))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"expected an RGB image of shape (H, W, 3) and type uint8, got {image.shape} of {image.dtype}; "
            "swahr.data.read_image reads files of every kind into that form"
        )
    return image
