"""The description of a run, in its checkpoints and in the stamps of its results."""

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from swahr.build import TEST_TIME_GROUPS
from swahr.checkpoint import describe_run
from swahr.skeleton import Skeleton
from swahr.trusted import is_reference_only

_DESCRIBED = ("model", "targets", *TEST_TIME_GROUPS, "evaluation", "expected")


def describe(
    config: DictConfig,
    model: Mapping[str, Any],
    facts: Mapping[str, Any],
    skeleton: Skeleton,
    stamp: Mapping[str, Any],
) -> str:
    """The description in a run's checkpoints.

    Args:
        config: the run's configuration, recorded as text.
        model: the network's node, with the heads that were built.
        facts: see `swahr.build.network_facts`.
        skeleton: the keypoints that the network predicts.
        stamp: see `swahr.provenance.provenance`.
    """
    whole = _whole(config)
    groups = {name: whole[name] for name in (*_DESCRIBED, "data")} | {"model": dict(model)}
    groups |= {"second_stage": whole["second_stage"]} if whole.get("second_stage") else {}
    facts = {**facts, "strides": list(facts["strides"])}
    return describe_run(groups, facts, skeleton, {**stamp, **settings(config)})


def settings(config: DictConfig) -> dict[str, Any]:
    """A run's configuration as text, its overrides and the options of its groups, for stamps.

    Without Hydra there are no overrides and options.
    """
    overrides: list[str] = []
    choices: dict[str, str] = {}
    if HydraConfig.initialized():
        run = HydraConfig.get()
        overrides = list(run.overrides.task)
        choices = {key: value for key, value in run.runtime.choices.items() if not key.startswith("hydra/")}
    text = OmegaConf.to_yaml(OmegaConf.create(_whole(config)))
    return {"config": text, "overrides": overrides, "choices": choices}


def _whole(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values, resolved except for references in its data."""
    whole = {str(name): _plain(value) for name, value in config.items() if name != "data"}
    return {**whole, "data": _with_references(config, "data")}


def _plain(value: Any, *, resolve: bool = True) -> Any:
    return OmegaConf.to_container(value, resolve=resolve) if OmegaConf.is_config(value) else value


def _with_references(config: DictConfig, group: str) -> Any:
    """A group in which references are kept, so that ``data.root`` can change, but resolvers are resolved."""

    def walk(raw: Any, path: str) -> Any:
        if isinstance(raw, dict):
            return {key: walk(value, f"{path}.{key}") for key, value in raw.items()}
        if isinstance(raw, list):
            return [walk(value, f"{path}[{i}]") for i, value in enumerate(raw)]
        return raw if is_reference_only(raw) else _plain(OmegaConf.select(config, path))

    return walk(_plain(config[group], resolve=False), group)
