"""Checkpoints as they travel: safetensors with the skeleton, the configuration and the stamp inside.

Training also leaves Lightning's own ``.ckpt`` files, from which a run resumes exactly; both kinds load here.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from swahr.model.weights import load_published, read_published
from swahr.skeleton import Skeleton

_METADATA = "swahr"
_PREFIX = "network."


@dataclass(frozen=True)
class Checkpoint:
    """Weights with everything needed to use them.

    Attributes:
        weights: the network's state dict.
        config: the resolved configuration of the run, plain values.
        skeleton: the keypoints the network was trained for.
        stamp: see `swahr.stamp`.
        path: where it was read, for messages.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    skeleton: Skeleton
    stamp: dict[str, Any]
    path: Path

    @property
    def is_exported(self) -> bool:
        """Whether it is an ONNX file, to be run by `swahr.inference.ExportedNetwork`."""
        return self.path.suffix == ".onnx"

    def load_into(self, network: nn.Module) -> None:
        """Copy the weights into ``network``.

        Raises:
            ValueError: the architectures differ; missing, unknown and misshapen keys are listed.
        """
        if self.is_exported:
            raise ValueError(
                f"{self.path}: expected a checkpoint with weights for PyTorch, got an exported network; use "
                "the .safetensors file that it was exported from"
            )
        wanted = network.state_dict()
        missing = sorted(wanted.keys() - self.weights.keys())
        unknown = sorted(self.weights.keys() - wanted.keys())
        misshapen = [
            f"{key} {tuple(self.weights[key].shape)} for {tuple(wanted[key].shape)}"
            for key in sorted(wanted.keys() & self.weights.keys())
            if self.weights[key].shape != wanted[key].shape
        ]
        if missing or unknown or misshapen:
            raise ValueError(
                f"{self.path}: the checkpoint is of another architecture than the network: "
                f"{_first('missing', missing)}, {_first('unknown', unknown)}, "
                f"{_first('misshapen', misshapen)}. "
                "Use the model configuration it was trained with, which it carries itself "
                "(Predictor.from_checkpoint and `swahr evaluate checkpoint=…` read it)."
            )
        network.load_state_dict(self.weights)

    def check_skeleton(self, skeleton: Skeleton, *, source: str) -> None:
        """Make sure that the data speak of the same keypoints.

        Raises:
            ValueError: the keypoint names or their order differ.
        """
        if skeleton.keypoints != self.skeleton.keypoints:
            raise ValueError(
                f"{self.path}: the checkpoint was trained for the {self.skeleton.num_keypoints} keypoints of "
                f"'{self.skeleton.name}' {list(self.skeleton.keypoints)}, but {source} has the "
                f"{skeleton.num_keypoints} of '{skeleton.name}' {list(skeleton.keypoints)}. "
                "Evaluate it on data with the same keypoints, or train on these."
            )


def _first(what: str, keys: list[str], limit: int = 4) -> str:
    return f"{len(keys)} {what}" + (
        f" ({', '.join(keys[:limit])}{', …' * (len(keys) > limit)})" if keys else ""
    )


def describe_run(config: Mapping[str, Any], skeleton: Skeleton, stamp: Mapping[str, Any]) -> str:
    """What a checkpoint says of itself, as one JSON text."""
    return json.dumps({"config": config, "skeleton": skeleton.to_dict(), "stamp": stamp})


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], description: str) -> None:
    """Write a safetensors file; nothing appears under ``path`` before it is complete."""
    partial = path.with_name(path.name + ".partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, partial, metadata={_METADATA: description})
    partial.replace(path)


def network_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's part of a training module's state dict."""
    return {name.removeprefix(_PREFIX): t for name, t in state_dict.items() if name.startswith(_PREFIX)}


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a ``.safetensors`` checkpoint or a training run's ``.ckpt`` (averaged weights where it has them).

    Of an exported ``.onnx`` only what it says of itself is read; its weights are for other libraries.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the package ``onnx`` is missing, for an exported network.
        ValueError: the file is damaged, or was not written by swahr.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such checkpoint; a training run leaves best.safetensors and last.ckpt in its folder"
        )
    read = {".safetensors": _read_safetensors, ".onnx": _read_onnx}.get(path.suffix, _read_ckpt)
    weights, description = read(path)
    if description is None:
        raise ValueError(
            f"{path}: expected a checkpoint written by swahr, but it carries no swahr description; "
            "`swahr convert published=…` makes one of published weights"
        )
    values = json.loads(description)
    skeleton = Skeleton.from_dict(values["skeleton"], source=str(path))
    return Checkpoint(weights, values["config"], skeleton, values["stamp"], path)


def add_description(path: Path, description: str) -> None:
    """Write what a checkpoint says of itself into an ONNX file.

    Raises:
        ImportError: the package ``onnx`` is missing.
    """
    onnx = import_onnx()
    model = onnx.load(path)
    model.metadata_props.add(key=_METADATA, value=description)
    onnx.save(model, path)


def start_from(network: nn.Module, path: str | os.PathLike[str], skeleton: Skeleton) -> None:
    """Give a network the weights that training starts from.

    Args:
        network: of the architecture that the weights are for.
        path: a checkpoint of ours, or published weights; an ImageNet HRNet fills the backbone only.
        skeleton: of the training data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another architecture, or for other keypoints.
    """
    path = Path(path)
    if path.suffix in (".ckpt", ".onnx") or (
        path.suffix == ".safetensors" and _read_safetensors(path)[1] is not None
    ):
        checkpoint = load_checkpoint(path)
        checkpoint.check_skeleton(skeleton, source="the training data")
        checkpoint.load_into(network)
    else:
        load_published(network, read_published(path), source=str(path))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return weights, (file.metadata() or {}).get(_METADATA)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a readable safetensors file ({error}); copy or train it again"
        ) from error


def _read_ckpt(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); copy or train it again") from error
    return network_weights(content.get("state_dict", {})), content.get(_METADATA)


def _read_onnx(path: Path) -> tuple[dict[str, Tensor], str | None]:
    onnx = import_onnx()
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError, of one of its several implementations
        raise ValueError(f"{path}: not a readable ONNX file ({error}); copy or export it again") from error
    return {}, {entry.key: entry.value for entry in model.metadata_props}.get(_METADATA)


def import_onnx() -> Any:
    """The optional package onnx.

    Raises:
        ImportError: it is not installed; says how to get it.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the package onnx: pip install 'swahr[onnx]'") from error
    return onnx
