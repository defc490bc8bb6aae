"""Reading published checkpoints: SWAHR's and HigherHRNet's state dicts, key by key.

`official_key` translates one key, `load_official` accounts for all of them, in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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


def official_key(key: str) -> str | None:
    """The official name of a tensor of `swahr.model.HigherHRNet`; None for what no official network has."""
    for pattern, name in _PLACES:
        placed, count = pattern.subn(name, key)
        if count:
            for part, replacement in _PARTS:
                placed = part.sub(replacement, placed)
            return placed
    return None


def load_official(network: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Load an official SWAHR or HigherHRNet state dict; SWAHR's for a network with scale heads.

    Args:
        network: a `swahr.model.HigherHRNet` of the same architecture, without weight heads.
        state_dict: official names to tensors.
        source: how error messages call the checkpoint, e.g. its path.

    Raises:
        ValueError: keys are missing, left over or of another shape; nothing is loaded then.
    """
    ours = network.state_dict()
    # What no official network has keeps our name, and so counts as missing.
    names = {key: official_key(key) or key for key in ours}
    missing = [name for name in names.values() if name not in state_dict]
    unknown = sorted(state_dict.keys() - set(names.values()))
    misshapen = [
        f"{name}: expected {tuple(ours[key].shape)}, got {tuple(state_dict[name].shape)}"
        for key, name in names.items()
        if name in state_dict and state_dict[name].shape != ours[key].shape
    ]
    if missing or unknown or misshapen:
        raise ValueError(
            f"{source} does not fit the network: {_listed('missing', missing)}; "
            f"{_listed('unknown', unknown)}; {_listed('of another shape', misshapen)}; build the network of "
            "the checkpoint's size, number of keypoints and heads (scale heads for SWAHR, never weight heads)"
        )
    network.load_state_dict({key: state_dict[name] for key, name in names.items()})


def _listed(title: str, keys: list[str]) -> str:
    return f"{len(keys)} {title}" + (f" ({', '.join(keys)})" if keys else "")
