"""The Python API: a trained network as a function from images to poses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from swahr.build import build_network_from, build_pipeline, settings_of
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.data import read_image
from swahr.pipeline import PosePipeline
from swahr.skeleton import Skeleton
from swahr.structures import NetworkOutput, Poses

ImageLike = str | os.PathLike[str] | npt.NDArray[np.uint8]


class Predictor:
    """Finds people and their keypoints in images.

    >>> predictor = Predictor.from_checkpoint("best.safetensors")  # doctest: +SKIP
    >>> poses = predictor("street.jpg")  # doctest: +SKIP
    >>> poses.keypoints.shape  # people, keypoints, (x, y) in pixels of the image  # doctest: +SKIP

    Args:
        network: images to maps.
        pipeline: images to poses, given a network.
        skeleton: the keypoints of the network.
        device: where to run; None takes the GPU if there is one.
        precision: ``bf16`` runs the network under autocast; decoding is in float32 either way.

    Raises:
        ValueError: CUDA is asked for where there is none, or the precision is unknown.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        pipeline: PosePipeline,
        skeleton: Skeleton,
        device: str | torch.device | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"expected precision fp32 or bf16, got {precision!r}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device {str(device)!r} was asked for, but PyTorch {torch.__version__} sees no GPU; use cpu"
            )
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload] # torch's stubs lack it
        self.pipeline = pipeline
        self.skeleton = skeleton
        self.precision = precision

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | Checkpoint,
        *,
        device: str | torch.device | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        overrides: Sequence[str] = (),
    ) -> Predictor:
        """Load a checkpoint (``.safetensors`` or ``.ckpt``) with the test-time settings it was trained with.

        Args:
            path: the file, or a checkpoint already read.
            device: where to run; None takes the GPU if there is one.
            precision: arithmetic of the network.
            overrides: changes to the test-time settings, such as ``["aggregate.flip=false"]``.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, of another architecture, or an override names no setting.
        """
        checkpoint = path if isinstance(path, Checkpoint) else load_checkpoint(path)
        settings = settings_of(checkpoint, overrides)
        return cls.with_settings(checkpoint, settings, device=device, precision=precision)

    @classmethod
    def with_settings(
        cls,
        checkpoint: Checkpoint,
        settings: DictConfig,
        *,
        device: str | torch.device | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> Predictor:
        """A checkpoint's network with test-time settings of one's own, as the commands compose them."""
        return cls(
            network=build_network_from(checkpoint),
            pipeline=build_pipeline(settings, checkpoint.skeleton),
            skeleton=checkpoint.skeleton,
            device=device,
            precision=precision,
        )

    def __call__(self, image: ImageLike) -> Poses:
        """Find the people in one image: a file, or an RGB array ``(H W 3)`` of uint8."""
        return self.predict([image])[0]

    def predict(self, images: Sequence[ImageLike]) -> list[Poses]:
        """Find the people in several images of any sizes; those of equal size run as batches."""
        return self.pipeline(self._forward, [_as_array(image) for image in images], self.device)

    def _forward(self, images: Tensor) -> NetworkOutput:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output: NetworkOutput = self.network(images)
        return output


def _as_array(image: ImageLike) -> npt.NDArray[np.uint8]:
    if not isinstance(image, np.ndarray):
        return read_image(Path(image))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"expected an RGB image of shape (H, W, 3) and type uint8, got {image.shape} of {image.dtype}; "
            "swahr.data.read_image reads files of every kind into that form"
        )
    return image
