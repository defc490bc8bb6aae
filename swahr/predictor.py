"""`Predictor`, the Python API of a trained network."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, OmegaConf

from swahr.build import (
    build_network_from,
    build_pipeline,
    check_finds_all_people,
    network_facts,
    second_stage_step,
    settings_of,
    skeleton_facts,
    target_facts,
)
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.choices import check_choice
from swahr.images import check_image, read_image
from swahr.inference import ExportedNetwork, TorchNetwork, open_exported
from swahr.pipeline import Image, PosePipeline
from swahr.skeleton import Skeleton
from swahr.structures import Poses
from swahr.weights import DEFAULT, names, packaged

_IN_THE_GRAPH = (  # settings that are fixed when a network is exported
    "aggregate.test_scales",
    "aggregate.flip",
    "aggregate.project",
    "aggregate.alignment",
    "grouping.peaks",
)
RUN_SETTINGS = ("device", "precision", "channels_last", "compile", "backend")
"""Settings of the commands that select where and how a network runs."""

_MODES_OF_8_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


@runtime_checkable
class PillowImage(Protocol):
    """An image of Pillow, a package that is not needed here."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The image in another mode."""


ImageLike = str | os.PathLike[str] | npt.NDArray[np.uint8] | PillowImage | Sequence[Sequence[Sequence[int]]]
"""A file; or RGB pixels of 8 bits: an array ``(H W 3)``, nested lists of that shape, or a Pillow image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """Predicts people and their keypoints in images.

    >>> predictor = Predictor.from_pretrained("photos_lite")  # doctest: +SKIP
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
    def from_pretrained(cls, name: str = DEFAULT, **options: Any) -> Predictor:
        """Load a network that comes with swahr; the model cards are in ``swahr/weights``.

        Args:
            name: of the network.
            options: as in `from_checkpoint`.

        Raises:
            ValueError: there is no such network, or as in `from_checkpoint`.
        """
        check_choice("name", name, names())
        return cls.from_checkpoint(packaged(name), **options)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | Checkpoint,
        *,
        second_stage: str | os.PathLike[str] | None = None,
        overrides: Sequence[str] = (),
        trust: Iterable[str] = (),
        **run: Any,
    ) -> Predictor:
        """Load a checkpoint with its own test-time settings.

        Args:
            path: a ``.safetensors`` or ``.ckpt``, an exported ``.onnx``, a name as in `from_pretrained`, or a
                loaded checkpoint.
            second_stage: the checkpoint of a single-person network, which refines every pose in a crop.
            overrides: changes to the test-time settings, such as ``["aggregate.flip=false"]``.
            trust: packages whose classes the file may name besides those of swahr. They can run any code.
            run: ``device``, ``precision``, ``channels_last`` and ``compile`` of
                `swahr.inference.TorchNetwork`, or ``backend`` and ``precision`` of
                `swahr.inference.open_exported`.

        Raises:
            FileNotFoundError: a file does not exist.
            ImportError: the backend of an exported network is not installed.
            ValueError: the file is damaged, of another architecture, or names a class that is not trusted; or
                an override does not match a setting.
        """
        checkpoint = path if isinstance(path, Checkpoint) else load_checkpoint(path, trust=trust)
        settings = settings_of(checkpoint, overrides, second_stage=second_stage)
        return cls.with_settings(checkpoint, settings, trust=trust, **run)

    @classmethod
    def with_settings(
        cls, checkpoint: Checkpoint, settings: DictConfig, *, trust: Iterable[str] = (), **run: Any
    ) -> Predictor:
        """Load a checkpoint with other test-time settings, composed as by `swahr.build.settings_of`.

        ``trust`` applies to the checkpoint of a second stage.
        """
        check_finds_all_people(checkpoint)
        facts = skeleton_facts(checkpoint.skeleton) | target_facts(checkpoint.config["targets"])
        network: TorchNetwork | ExportedNetwork
        check_run(checkpoint, **run)
        if checkpoint.is_exported:
            _check_exported_settings(checkpoint, settings)
            chosen = {name: run[name] for name in ("precision", "backend") if name in run}
            network, device = open_exported(checkpoint.path, **chosen), torch.device("cpu")
            facts |= {name: checkpoint.facts[name] for name in ("strides", "size_multiple")}
        else:
            run.pop("backend", None)
            network = TorchNetwork(build_network_from(checkpoint), **run)
            device = network.device
            facts |= network_facts(network)
        own = {name: run[name] for name in ("precision", "channels_last", "backend") if name in run}
        second = second_stage_step(settings, checkpoint.skeleton, trust=trust, device=device, **own)
        pipeline = build_pipeline(settings, facts, exported=checkpoint.is_exported, second_stage=second)
        return cls(network=network, pipeline=pipeline, skeleton=checkpoint.skeleton, device=device)

    def __call__(self, image: ImageLike) -> Poses:
        """Return the poses in one image; errors as in `stream`."""
        return self.predict([image])[0]

    def predict(self, images: Iterable[ImageLike]) -> list[Poses]:
        """Return the poses in several images of any sizes; errors as in `stream`."""
        return list(self.stream(images))

    def stream(self, images: Iterable[ImageLike]) -> Iterator[Poses]:
        """Yield the poses in each image, in order; only a few images are in memory at a time.

        Images of similar shape are batched. Pillow's images are used as they are, without EXIF orientation.

        Raises:
            OSError, RuntimeError, TypeError, ValueError: an image cannot be read, is not an RGB image, needs
                too large an input, or the network or the decoder fails; the message names the image.
        """
        if isinstance(images, str | os.PathLike | PillowImage) or getattr(images, "ndim", 4) == 3:
            raise TypeError("expected several images, got one; call predictor(image)")
        files: dict[int, str] = {}

        def read() -> Iterator[Image | Exception]:
            for i, image in enumerate(images):
                if isinstance(image, str | os.PathLike):
                    files[i] = os.fspath(image)
                try:
                    yield _as_array(image)
                except (OSError, TypeError, ValueError) as error:
                    yield error

        for i, outcome in enumerate(self.pipeline.outcomes(self.network, read(), self.device)):
            name = files.pop(i, f"image {i}")
            if isinstance(outcome, Exception):
                raise located(outcome, name) from outcome
            yield outcome


def located(error: Exception, name: str) -> Exception:
    """An error in an image, as one of Python's common kinds, with the image's name in its message."""
    kinds = (FileNotFoundError, OSError, TypeError, ValueError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), None)
    text = str(error) if kind else textwrap.shorten(f"{type(error).__name__}: {error}", 500)
    return (kind or RuntimeError)(text if name in text else f"{name}: {text}")


def _check_exported_settings(checkpoint: Checkpoint, settings: DictConfig) -> None:
    for key in _IN_THE_GRAPH:
        wanted, inside = (OmegaConf.select(OmegaConf.create(c), key) for c in (settings, checkpoint.config))
        if wanted != inside:
            raise ValueError(
                f"{checkpoint.path} was exported with {key}={inside}, which is fixed in the file; to use "
                f"{wanted}, export the network again with that setting"
            )


def check_run(
    checkpoint: Checkpoint,
    *,
    device: str | int | torch.device | None = None,
    compile: bool = False,  # noqa: A002 - PyTorch's own word
    backend: str | None = None,
    **_: Any,
) -> None:
    """Raise ValueError for a setting of a run that this kind of file does not have."""
    if not checkpoint.is_exported and backend is not None:
        raise ValueError(f"{checkpoint.path}: expected an exported .onnx file for backend={backend}")
    if checkpoint.is_exported and (str(device) not in ("None", "cpu") or compile):
        raise ValueError(
            f"{checkpoint.path}: an exported network runs on the CPU and is not compiled by PyTorch; remove "
            "device and compile, or use the .safetensors checkpoint"
        )


def _as_array(image: Any) -> Image:
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if isinstance(image, PillowImage):
        if image.mode not in _MODES_OF_8_BITS:
            raise ValueError(
                f"expected a Pillow image of 8 bits ({', '.join(_MODES_OF_8_BITS)}), got mode {image.mode}; "
                "pass the file's path, or scale the values to 0 … 255"
            )
        image = np.asarray(image.convert("RGB"))
    elif isinstance(image, list | tuple):
        image = _array_of_lists(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"expected a path, an RGB array (H, W, 3) of uint8, such lists, or a Pillow image, got "
            f"{type(image).__name__}; a tensor (3, H, W) becomes such an array by "
            "tensor.permute(1, 2, 0).cpu().numpy()"
        )
    check_image(image)
    return image


def _array_of_lists(values: Sequence[Any]) -> npt.NDArray[Any]:
    try:
        array = np.array(values)
    except ValueError as error:
        raise ValueError("expected lists of equal lengths, one RGB triple per pixel; correct them") from error
    if array.dtype.kind in "US":
        raise TypeError("expected one image, got a list of names; call predictor.predict(files)")
    if array.size and array.dtype.kind in "iu" and 0 <= array.min() <= array.max() <= 255:
        return array.astype(np.uint8)
    return array
