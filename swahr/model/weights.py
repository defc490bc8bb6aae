"""Reading published weights, key by key: SWAHR, HigherHRNet, mmpose 0.x, and HRNet trained on ImageNet.

`official_key` translates one name, a `Layout` says how a family of files differs from it, and
`load_published` accounts for every key, in both directions.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

_Rule = tuple[re.Pattern[str], str]


def _rules(*table: tuple[str, str]) -> tuple[_Rule, ...]:
    return tuple((re.compile(pattern), name) for pattern, name in table)


# Exactly one of these places a tensor; our key on the left, the official one on the right. A unit is
# (convolution, batch norm, ReLU), so its members are 0 and 1.
_PLACES = _rules(
    (r"^backbone\.stem\.0\.0\.", "conv1."),
    (r"^backbone\.stem\.0\.1\.", "bn1."),
    (r"^backbone\.stem\.1\.0\.", "conv2."),
    (r"^backbone\.stem\.1\.1\.", "bn2."),
    (r"^backbone\.layer1\.", "layer1."),
    (r"^backbone\.transitions\.0\.kept\.", "transition1."),
    (r"^backbone\.transitions\.1\.kept\.", "transition2."),
    (r"^backbone\.transitions\.2\.kept\.", "transition3."),
    (r"^backbone\.transitions\.0\.opened\.", "transition1.1.0."),
    (r"^backbone\.transitions\.1\.opened\.", "transition2.2.0."),
    (r"^backbone\.transitions\.2\.opened\.", "transition3.3.0."),
    (r"^backbone\.stages\.0\.", "stage2."),
    (r"^backbone\.stages\.1\.", "stage3."),
    (r"^backbone\.stages\.2\.", "stage4."),
    (r"^deconvolutions\.(\d+)\.upsample\.", r"deconv_layers.\1.0."),
    # The official list holds the transposed convolution first, then every block in a list of its own.
    (r"^deconvolutions\.(\d+)\.blocks\.0\.", r"deconv_layers.\1.1.0."),
    (r"^deconvolutions\.(\d+)\.blocks\.1\.", r"deconv_layers.\1.2.0."),
    (r"^deconvolutions\.(\d+)\.blocks\.2\.", r"deconv_layers.\1.3.0."),
    (r"^deconvolutions\.(\d+)\.blocks\.3\.", r"deconv_layers.\1.4.0."),
    (r"^heads\.(\d+)\.heatmap\.conv\.", r"final_layers.\1."),
    (r"^heads\.(\d+)\.scale_map\.conv\.", r"conv_scale_layers.\1.0."),
    (r"^heads\.(\d+)\.scale_map\.norm\.", r"conv_scale_layers.\1.1."),
    (r"^heads\.(\d+)\.scale_map\.smooth\.", r"conv_scale_layers.\1.3."),
)
# All of these apply to the parts inside.
_PARTS = _rules(
    (r"\.unit(\d)\.0\.", r".conv\1."),
    (r"\.unit(\d)\.1\.", r".bn\1."),
    (r"\.shortcut\.", ".downsample."),
    (r"\.fusion\.paths\.", ".fuse_layers."),
)
_BACKBONE = "backbone."
_WRAPPER = "module."  # torch's DataParallel puts it before every name


def official_key(key: str) -> str | None:
    """The official name of a tensor of `swahr.model.HigherHRNet`; None for what no official network has."""
    for pattern, name in _PLACES:
        placed, count = pattern.subn(name, key)
        if count:
            for part, replacement in _PARTS:
                placed = part.sub(replacement, placed)
            return placed
    return None


@dataclass(frozen=True)
class Layout:
    """How a family of files names its tensors.

    Attributes:
        name: of the family.
        marker: the beginning of a name that every such file has, and no file of a family listed before.
        backbone: what stands before the official name of a backbone's tensor.
        heads: the same for deconvolutions and heads; None where the family has none of ours.
        surplus: beginnings (patterns) of names that such files may have, and no pose network has.
    """

    name: str
    marker: str
    backbone: str
    heads: str | None
    surplus: tuple[str, ...] = ()

    def key(self, ours: str) -> str | None:
        """The family's name of one of our tensors; None for what it has nothing for.

        What no official network has at all keeps our name, and so is found missing.
        """
        official = official_key(ours)
        if ours.startswith(_BACKBONE):
            return ours if official is None else self.backbone + official
        if self.heads is None:
            return None
        return ours if official is None else self.heads + official

    def is_surplus(self, name: str) -> bool:
        """Whether a name of the file stands for something that pose networks do without."""
        return any(re.match(pattern, name) for pattern in self.surplus)


LAYOUTS = (
    Layout(
        name="mmpose 0.x HigherHRNet", marker="keypoint_head.", backbone="backbone.", heads="keypoint_head."
    ),
    Layout(name="SWAHR or HigherHRNet", marker="final_layers.", backbone="", heads=""),
    Layout(
        name="ImageNet HRNet",  # the official release, and timm, which kept its names
        marker="stage4.",
        backbone="",
        heads=None,
        surplus=(
            r"incre_modules\.",
            r"downsamp_modules\.",
            r"final_layer\.",
            r"classifier\.",
            r"stage4\.2\.fuse_layers\.[123]\.",  # the coarser outputs of the last module
        ),
    ),
)
"""Every family that can be read."""


def layout_of(names: Iterable[str], *, source: str) -> Layout:
    """The family that a file with such names belongs to.

    Raises:
        ValueError: none.
    """
    names = sorted(names)
    for layout in LAYOUTS:
        if any(name.startswith(layout.marker) for name in names):
            return layout
    raise ValueError(
        f"{source}: expected the weights of {', '.join(layout.name for layout in LAYOUTS)}, but none of its "
        f"{len(names)} names begins with {', '.join(layout.marker for layout in LAYOUTS)}; the first are "
        f"{names[:4]}"
    )


def load_published(network: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> Layout:
    """Load a published state dict; SWAHR's for a network with scale heads, HigherHRNet's for one without.

    An ImageNet HRNet fills the backbone, and leaves deconvolutions and heads as they are. Batch norm's
    counters of batches, which nothing reads, may be missing: PyTorch before 0.4.1 had none.

    Args:
        network: a `swahr.model.HigherHRNet` of the same architecture, without weight heads.
        state_dict: the file's names to tensors.
        source: how error messages call the file, e.g. its path.

    Returns:
        The family the file belongs to.

    Raises:
        ValueError: keys are missing, left over or of another shape; nothing is loaded then.
    """
    layout = layout_of(state_dict, source=source)
    ours = network.state_dict()
    names = {key: name for key in ours if (name := layout.key(key)) is not None}
    found = {key: name for key, name in names.items() if name in state_dict}
    absent = [name for key, name in names.items() if key not in found]
    missing = [name for name in absent if not name.endswith(".num_batches_tracked")]
    left = state_dict.keys() - set(names.values())
    unknown = sorted(name for name in left if not layout.is_surplus(name))
    misshapen = [
        f"{name}: expected {tuple(ours[key].shape)}, got {tuple(state_dict[name].shape)}"
        for key, name in found.items()
        if state_dict[name].shape != ours[key].shape
    ]
    if missing or unknown or misshapen:
        raise ValueError(
            f"{source} does not fit the network as weights of {layout.name}; build the one they were made "
            "for: its width, number of keypoints and heads (scale heads for SWAHR only, never weight heads). "
            f"{_listed('missing', missing)}; {_listed('unknown', unknown)}; "
            f"{_listed('of another shape', misshapen)}"
        )
    network.load_state_dict(ours | {key: state_dict[name] for key, name in found.items()})
    return layout


def _listed(title: str, keys: list[str]) -> str:
    return f"{len(keys)} {title}" + (f" ({', '.join(keys)})" if keys else "")


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that was not written by swahr: safetensors, or a pickle of PyTorch's.

    They may stand below ``state_dict``, and have been saved from a ``DataParallel`` network. Of pickles only
    tensors and plain values are read (``weights_only``), so that no code in them can run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected published weights, .pth or .safetensors")
    content = _read(path)
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: expected a state dict (names to tensors), or one below 'state_dict'")
    wrapped = all(name.startswith(_WRAPPER) for name in content)
    return {name.removeprefix(_WRAPPER) if wrapped else name: value for name, value in content.items()}


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: damaged, or a pickle of more than tensors and plain values; reading that would run "
            "code from the file, which swahr does not do. Save its state dict alone, where you trust it"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: not a readable file of weights ({error}); copy it again") from error
