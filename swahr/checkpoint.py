"""Checkpoints: network weights and a description (skeleton, architecture, test settings, provenance stamp).

Three file types have the same description: ``.safetensors``; Lightning's ``.ckpt``, from which training
resumes exactly; and exported ``.onnx``. Reading a file never runs code in it: pickles may only
hold tensors and plain values, and the description may only name classes of packages that the caller trusts.
"""

import json
import os
import tarfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from swahr.files import check_downloaded, unwritable_reported, whole_file
from swahr.migration import FORMAT, migrated
from swahr.skeleton import Skeleton
from swahr.trusted import check_targets
from swahr.weights import located, names

_METADATA = "swahr"
_PREFIX = "network."
SECOND_STAGE = "second_stage"  # of a description; before a dot: of weights

_DEFAULTS: dict[str, Any] = {
    "targets": {"_target_": "swahr.targets.TargetEncoder"},
    "aggregate": {"_target_": "swahr.aggregate.Aggregator"},
    "grouping": {
        "peaks": {"_target_": "swahr.grouping.PeakExtractor"},
        "rule": {"_target_": "swahr.grouping.GatedGrouping"},
    },
    "decode": {
        "_target_": "swahr.decode.Decoder",
        "refine": {"_target_": "swahr.decode.Dark"},
        "recover": {"_target_": "swahr.decode.KeypointRecovery"},
    },
    "postprocess": {},
    "evaluation": {"_target_": "swahr.evaluation.Evaluator"},
}
"""Defaults of groups that are newer than a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """Network weights and the settings needed to use them.

    Attributes:
        weights: the network's state dict; empty for an exported network.
        config: the configuration groups that rebuild and test the network, as plain values.
        facts: ``strides`` and ``size_multiple`` of the network.
        skeleton: the keypoints that the network predicts.
        stamp: see `swahr.provenance`; ``stamp["config"]`` is the run's whole configuration as text.
        path: the file.
        second_stage: the single-person network in the same file, if it holds both stages.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    facts: dict[str, Any]
    skeleton: Skeleton
    stamp: dict[str, Any]
    path: Path
    second_stage: "Checkpoint | None" = None

    @property
    def is_exported(self) -> bool:
        """Whether this is an ONNX file, to be opened with `swahr.inference.open_exported`."""
        return self.path.suffix == ".onnx"

    def load_into(self, network: nn.Module) -> None:
        """Copy the weights into ``network``.

        Raises:
            ValueError: the architectures differ; the first missing, unexpected and misshapen keys are listed.
        """
        if self.is_exported:
            raise ValueError(
                f"{self.path}: expected a checkpoint with weights for PyTorch, got an exported network; use "
                "the .safetensors file that it was exported from"
            )
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            lines = [textwrap.shorten(line, 200, placeholder=" …") for line in str(error).splitlines()]
            raise ValueError(
                f"{self.path}: the checkpoint is of another architecture than the network. "
                f"{' '.join(lines[1:5])}{' …' if len(lines) > 5 else ''} Use the model configuration of "
                "the checkpoint, as Predictor.from_checkpoint and `swahr evaluate checkpoint=…` do."
            ) from None

    def check_skeleton(self, skeleton: Skeleton, *, source: str) -> None:
        """Raise ValueError unless data have the keypoints of the checkpoint, in the same order."""
        if skeleton.keypoints != self.skeleton.keypoints:
            raise ValueError(
                f"{self.path}: the checkpoint was trained for the {self.skeleton.num_keypoints} keypoints of "
                f"'{self.skeleton.name}' {list(self.skeleton.keypoints)}, but {source} has the "
                f"{skeleton.num_keypoints} of '{skeleton.name}' {list(skeleton.keypoints)}. "
                "Evaluate it on data with the same keypoints, or train on these."
            )


def describe_run(
    config: Mapping[str, Any], facts: Mapping[str, Any], skeleton: Skeleton, stamp: Mapping[str, Any]
) -> str:
    """The description in a checkpoint, as JSON; `Checkpoint` documents its parts."""
    parts = {"config": config, "facts": facts, "skeleton": skeleton.to_dict(), "stamp": stamp}
    return json.dumps({"format": FORMAT, **parts})


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], description: str) -> None:
    """Write a safetensors file; it appears at ``path`` when it is complete.

    Raises:
        OSError: it cannot be written; an earlier file is unchanged.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with unwritable_reported(path), whole_file(path) as partial:
        save_file(tensors, partial, metadata={_METADATA: description})


def network_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's part of a training module's state dict."""
    return {name.removeprefix(_PREFIX): t for name, t in state_dict.items() if name.startswith(_PREFIX)}


def load_checkpoint(path: str | os.PathLike[str], *, trust: Iterable[str] = ()) -> Checkpoint:
    """Read a checkpoint; files of older formats are migrated, and missing settings take their defaults.

    Args:
        path: a ``.safetensors``; a training run's ``.ckpt``, whose averaged weights are preferred; an
            exported ``.onnx``, whose weights are not read; or the name of a network in `swahr.weights`.
        trust: packages whose classes the file may name besides those of swahr. They are imported, and can run
            any code.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: the file is an ``.onnx``, and the package ``onnx`` is missing.
        ValueError: the file is damaged, not written by swahr, written by a newer version, or names a class of
            a package that is not trusted.
    """
    path = located(path)
    return _described(path, *_read(path), trust=trust)


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The network's weights and the description."""
    read = {".safetensors": _read_safetensors, ".onnx": _read_onnx}.get(path.suffix, _read_ckpt)
    weights, description = read(_existing(path))
    return weights, described_or_fail(path, description)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such checkpoint; a run leaves best.safetensors and last.ckpt in its folder; "
            f"{', '.join(names())} comes with swahr"
        )
    check_downloaded(path)
    return path


def described_or_fail(path: Path, description: str | None) -> str:
    """The description; ValueError if there is none."""
    if description is None:
        raise ValueError(
            f"{path}: expected a checkpoint written by swahr, but it carries no swahr description; "
            "`swahr convert published=…` turns published weights into one"
        )
    return description


def _described(
    path: Path, weights: dict[str, Tensor], description: str, *, trust: Iterable[str] | None
) -> Checkpoint:
    """Parse, check and migrate. If ``trust`` is None, ``config`` is unchecked and must not be used."""
    with damage_reported(path):
        values = json.loads(description)
        if trust is not None:
            check_targets(values["config"], source=str(path), trust=trust)
        values, weights = migrated(values, weights, source=str(path))
        skeleton = Skeleton.from_dict(values["skeleton"], source=str(path))
        config, facts = _DEFAULTS | values["config"], values.get("facts", {})
        _check_mappings({"model": config["model"], "facts": facts, "expected": {}, SECOND_STAGE: {}} | config)
        if "_target_" not in config.get(SECOND_STAGE, {}):  # a file must not name other files
            config.pop(SECOND_STAGE, None)
        elif config[SECOND_STAGE]["_target_"] == "swahr.second_stage.SecondStage":
            config[SECOND_STAGE] = {"deformation_weight": 1.0} | config[SECOND_STAGE] | {"deformation": None}
        second = None
        if (nested := values.get(SECOND_STAGE)) is not None:
            names, start = list(weights), f"{SECOND_STAGE}."
            own = {name.removeprefix(start): weights.pop(name) for name in names if name.startswith(start)}
            second = _described(path, own, json.dumps(nested), trust=trust)
            config[SECOND_STAGE] = second.config.get(SECOND_STAGE, {}) | {"checkpoint": str(path)}
            config[SECOND_STAGE].pop("_target_", None)
    return Checkpoint(weights, config, facts, skeleton, values.get("stamp", {}), path, second)


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Errors in reading a description become a ValueError."""
    try:
        yield
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: the description inside is damaged ({error!r}); copy it again") from error


def _check_mappings(groups: Mapping[str, Any]) -> None:
    """Check groups and facts; Hydra would read one that is text as YAML, with classes that nobody checked."""
    for name in ("model", "data", "facts", "expected", SECOND_STAGE, *_DEFAULTS):
        if not isinstance(groups[name], dict) and (name, groups[name]) != ("expected", None):
            raise TypeError(f"{name}: expected a mapping, got {groups[name]!r}")


def add_description(path: Path, description: str) -> None:
    """Write the description into an ONNX file; raises ImportError without the package ``onnx``."""
    onnx = import_onnx()
    model = onnx.load(path)
    model.metadata_props.add(key=_METADATA, value=description)
    onnx.save(model, path)


def load_weights(path: Path) -> Checkpoint | None:
    """Read a file for its weights and keypoints only; None if swahr did not write it.

    The classes that it names need no trust, and its ``config`` must not be used. Errors are those of
    `load_checkpoint`.
    """
    is_ours = path.suffix in (".ckpt", ".onnx")
    if path.suffix == ".safetensors" and path.is_file():
        is_ours = _read_safetensors(_existing(path))[1] is not None
    if not is_ours:
        return None
    return _described(path, *_read(path), trust=None)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return weights, (file.metadata() or {}).get(_METADATA)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}); copy it again") from error


def _read_ckpt(path: Path) -> tuple[dict[str, Tensor], str | None]:
    content = read_ckpt(path)
    return network_weights(content.get("state_dict", {})), content.get(_METADATA)


def read_ckpt(path: Path) -> dict[str, Any]:
    """The content of a ``.ckpt``; errors are those of `load_checkpoint`."""
    _existing(path)
    if tarfile.is_tarfile(path):  # of PyTorch before 0.4, whose reader can run code
        raise ValueError(f"{path}: expected a checkpoint, got a tar archive, which swahr does not write")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged bytes can raise anything
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise ValueError(f"{path}: not a readable checkpoint ({reason}); copy or train it again") from error
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("state_dict", {}), dict)
        or not isinstance(content.get(_METADATA), str | None)
    ):
        raise ValueError(  # noqa: TRY004 - the file is wrong, not a caller's type
            f"{path}: expected a training run's checkpoint, got another pickle; copy or train it again"
        )
    return content


def _read_onnx(path: Path) -> tuple[dict[str, Tensor], str | None]:
    onnx = import_onnx()
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, which has several implementations
        raise ValueError(f"{path}: not a readable ONNX file ({error}); copy or export it again") from error
    if any(tensor.data_location == tensor.EXTERNAL for tensor in model.graph.initializer):
        raise ValueError(
            f"{path}: expected all weights inside the file, but it names other files; export it again"
        )
    return {}, {entry.key: entry.value for entry in model.metadata_props}.get(_METADATA)


def import_onnx() -> Any:
    """Import the optional package onnx; without it, the ImportError tells how to install it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the package onnx: pip install 'swahr[onnx]'") from error
    return onnx
