"""Migration of checkpoints in older formats to the current one, and of names of classes that moved.

Format 1, of commit 6ccc9b5, has no number. Its network is one class with flat settings, in which one
convolution predicts heatmaps and tags. Its decoding and grouping methods are selected by strings.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

FORMAT = 2

_GROUPS = ("model", "aggregate", "grouping", "decode", "evaluation", "data", "expected")
_BACKBONE = ("stem_channels", "layer1_blocks", "layer1_channels", "channels", "modules", "blocks")
_HEAD_NAMES = {"scale_map": "scale_maps", "weight_map": "log_weight_maps"}
_REFINE = {
    "quarter": "swahr.decode.QuarterOffset",
    "none": "swahr.decode.PixelCentre",
    "dark": "swahr.decode.Dark",
    "dark_scale_map": "swahr.decode.DarkWithScaleMap",
}
_OFFICIAL_ONLY = ("solver", "max_people", "stop_when_full")
_MOVED = {
    "swahr.data.SyntheticSource": "swahr.synthetic.SyntheticSource",
    "swahr.data.PoseDataModule": "swahr.data.datamodule.PoseDataModule",
    "swahr.model.EfficientNetLite": "swahr.backbones.EfficientNetLite",
    "swahr.training.ExportBest": "swahr.runs.ExportBest",
    "swahr.training.PlotCurves": "swahr.runs.PlotCurves",
    "swahr.training.PredictionPictures": "swahr.runs.PredictionPictures",
    "swahr.training.SaveOnInterrupt": "swahr.runs.SaveOnInterrupt",
    "swahr.training.Throughput": "swahr.runs.Throughput",
    "swahr.training.WarnOfEqualTags": "swahr.runs.WarnOfEqualTags",
}
"""Earlier names of classes, in configurations and recorded results, and the current ones."""


def migrated(
    values: Mapping[str, Any], weights: Mapping[str, Tensor], *, source: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint's description and weights in the current format.

    Args:
        values: the description in the file, with ``config`` and ``skeleton``.
        weights: the state dict in the file; empty for an exported network.
        source: name of the file in messages.

    Raises:
        ValueError: the format is newer or unknown.
    """
    number = values.get("format", 1)
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        raise ValueError(
            f"{source}: expected a checkpoint of format 1 to {FORMAT}, got {number!r}; read it with the "
            "version of swahr that wrote it, or a newer one"
        )
    if number == FORMAT:
        return dict(values), dict(weights)
    config = _config_of_format_1(values["config"])
    levels = len(values["config"]["model"]["deconv_channels"]) + 1
    facts = {"strides": [4 // 2**level for level in range(levels)], "size_multiple": 32}
    return {**values, "format": FORMAT, "config": config, "facts": facts}, _weights_of_format_1(weights)


def renamed(tree: Any) -> Any:
    """Plain values, such as a configuration or the name of a class, with the current names of classes."""
    if isinstance(tree, Mapping):
        return {key: renamed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [renamed(value) for value in tree]
    return _MOVED.get(tree, tree) if isinstance(tree, str) else tree


def _config_of_format_1(old: Mapping[str, Any]) -> dict[str, Any]:
    config = {group: old[group] for group in _GROUPS if group in old}
    config["model"] = _model(old["model"], old["loss"])
    config["targets"] = {**old["target"], "_target_": "swahr.targets.TargetEncoder"}
    aggregate = {name: value for name, value in old["aggregate"].items() if name != "alignment"}
    config["aggregate"] = {"round_to": aggregate.pop("size_multiple"), **aggregate}
    config["grouping"] = {"peaks": old["grouping"]["peaks"], "rule": _rule(old["grouping"]["groups"])}
    config["decode"] = _decode(old["decode"])
    config["data"] = renamed(old["data"])
    return config


def _model(old: Mapping[str, Any], loss: Mapping[str, Any]) -> dict[str, Any]:
    heads: dict[str, dict[str, Any]] = {
        "heatmaps": {"_target_": "swahr.model.HeatmapHead"},
        "tags": {"_target_": "swahr.model.TagHead"},
    }
    kernel = old["modulation_kernel"]
    if loss["scale_target"] != "none":  # in format 1, the loss determines the heads
        heads["scale_maps"] = {"_target_": "swahr.model.ScaleMapHead", "kernel": kernel}
    if loss["weight"] == "learned":
        heads["log_weight_maps"] = {"_target_": "swahr.model.WeightMapHead", "kernel": kernel}
    return {
        "_target_": "swahr.model.HigherHRNet",
        "backbone": {
            "_target_": "swahr.model.HRNet",
            **{name: old[name] for name in _BACKBONE},
            "initial_std": old["initial_std"],
        },
        "heads": {name: {**node, "_partial_": True} for name, node in heads.items()},
        **{name: old[name] for name in ("deconv_channels", "deconv_blocks", "initial_std")},
    }


def _rule(old: Mapping[str, Any]) -> dict[str, Any]:
    official = old["rule"] == "official"
    dropped = ("rule",) if official else ("rule", *_OFFICIAL_ONLY)
    rule = {name: value for name, value in old.items() if name not in dropped}
    return {**rule, "_target_": f"swahr.grouping.{'OfficialGrouping' if official else 'GatedGrouping'}"}


def _decode(old: Mapping[str, Any]) -> dict[str, Any]:
    refine, recover = dict(old["refine"]), dict(old["recover"])
    method = refine.pop("method")
    settings = refine if method.startswith("dark") else {}
    return {
        "_target_": "swahr.decode.Decoder",
        "refine": {**settings, "_target_": _REFINE[method]},
        "recover": recover if recover.pop("enabled") else None,
    }


def _weights_of_format_1(old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for key, value in old.items():
        match = re.fullmatch(r"heads\.(\d+)\.(\w+)\.(.+)", key)
        if match is None:
            weights[key] = value
        elif match[2] != "heatmap":
            weights[f"heads.{match[1]}.{_HEAD_NAMES[match[2]]}.{match[3]}"] = value
        elif match[1] == "0":  # the coarsest resolution's convolution also predicts tags
            parts = zip(("heatmaps", "tags"), value.chunk(2), strict=True)
            weights |= {f"heads.0.{name}.{match[3]}": part for name, part in parts}
        else:
            weights[f"heads.{match[1]}.heatmaps.{match[3]}"] = value
    return weights
