"""One pass of a network over the images of a data set, decoded in several settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from swahr.build import build_pipeline, chosen_skeleton, network_facts, skeleton_facts, target_facts
from swahr.build_data import build_evaluation, build_source
from swahr.checkpoint import Checkpoint, load_checkpoint
from swahr.cli.evaluate import outcomes
from swahr.cli.problems import finite_people
from swahr.data import Source
from swahr.pipeline import Image, PosePipeline
from swahr.predictor import RUN_SETTINGS, Predictor, located
from swahr.provenance import log_findings
from swahr.skeleton import Skeleton
from swahr.structures import DenseMaps, Poses
from sweep.settings import Setting


@dataclass(frozen=True, eq=False, kw_only=True)
class Undecoded(Poses):
    """Takes the place of an image's poses in a pipeline: the maps of its batch, and its index there."""

    maps: DenseMaps
    index: int

    @property
    def own(self) -> DenseMaps:
        """The image's own maps."""
        return _of_image(self.maps, self.index)


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded(Poses):
    """Takes the place of an image's poses in a pipeline: the poses, or the error, of each setting."""

    by_setting: Mapping[str, Poses | Exception]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint, with the images and networks that its settings need, each loaded once."""

    checkpoint: Checkpoint
    sources: dict[str, Source] = field(default_factory=dict)
    predictors: dict[tuple[Any, ...], Predictor] = field(default_factory=dict)

    def source(self, setting: Setting) -> Source:
        """The images of a setting; errors as in `swahr evaluate`."""
        if setting.images not in self.sources:
            data = setting.config.data
            source: Source = build_source(data.module.val, chosen_skeleton(data.skeleton, self.checkpoint))
            self.checkpoint.check_skeleton(source.skeleton, source="the validation data")
            log_findings(source)
            self.sources[setting.images] = source
        return self.sources[setting.images]

    def predictor(self, setting: Setting) -> Predictor:
        """The network in the precision and on the device of a setting; the pipeline may be another's."""
        run = {name: setting.config[name] for name in RUN_SETTINGS}
        key = tuple(run.values())
        if key not in self.predictors:
            self.predictors[key] = Predictor.with_settings(self.checkpoint, setting.config, **run)
        return self.predictors[key]


@dataclass(frozen=True, eq=False)
class Pass:
    """Settings that share the network's maps of all images.

    Attributes:
        settings: by `Setting.identity`.
        pipelines: likewise.
        metrics: functions from poses to metrics, likewise.
        predictor: has the network that predicts the maps.
        facts: about the skeleton, the targets and the network.
        source: the images.
    """

    settings: Mapping[str, Setting]
    pipelines: Mapping[str, PosePipeline]
    metrics: Mapping[str, Callable[[Mapping[int, Poses]], dict[str, float]]]
    predictor: Predictor
    facts: Mapping[str, Any]
    source: Source

    def run(self) -> Iterator[tuple[Setting, dict[str, float] | Exception]]:
        """Yield each setting with its metrics, or with the error that prevented them.

        Raises:
            Exception: an image could not be read or the network failed, so that no setting has metrics.
        """
        poses: dict[str, dict[int, Poses]] = {identity: {} for identity in self.settings}
        errors: dict[str, Exception] = {}
        order: dict[int, int] = {}
        for index, image_id, decoded in self._outcomes(_DecodeAll(self.pipelines)):
            order[image_id] = index
            for identity, outcome in decoded.by_setting.items():
                try:
                    poses[identity][image_id] = checked(outcome, self.source.describe(index))
                except Exception as error:
                    errors.setdefault(identity, error)
        for identity, setting in self.settings.items():
            found, outcome = poses.pop(identity), errors.get(identity)
            try:
                in_order = {image_id: found[image_id] for image_id in sorted(found, key=order.__getitem__)}
                yield setting, outcome or self.metrics[identity](in_order)
            except ValueError as error:
                yield setting, error

    def maps(self) -> Iterator[tuple[int, int, DenseMaps]]:
        """Yield index, id and merged maps of each image; errors as in `run`."""
        for index, image_id, undecoded in self._outcomes():
            yield index, image_id, undecoded.own

    def _outcomes(self, *steps: Any) -> Iterator[tuple[int, int, Any]]:
        """Index, id, and `Undecoded` or what ``steps`` make of it, of each image."""
        module = next(iter(self.settings.values())).config.data.module
        pipeline = next(iter(self.pipelines.values()))
        holding = replace(pipeline, decode=_Hold(self.source.skeleton), steps=steps)
        predictor = replace(self.predictor, pipeline=holding)
        found = outcomes(predictor, self.source, module.val_batch_size, module.workers)
        for index, image_id, outcome in found:
            if isinstance(outcome, Exception):
                raise located(outcome, self.source.describe(index)) from outcome
            yield index, image_id, outcome


def prepared(settings: Sequence[Setting]) -> list[Pass]:
    """The passes that settings of one checkpoint need.

    Raises:
        ValueError: the checkpoint, the data or a setting is not usable; in the latter case it is named.
    """
    first = settings[0].config
    checkpoint = load_checkpoint(first.checkpoint, trust=first.trust or ())
    if checkpoint.is_exported:
        raise ValueError(
            f"{checkpoint.path}: expected a .safetensors or .ckpt, as settings are fixed in an exported "
            "network; use the checkpoint that it was exported from"
        )
    loaded = Loaded(checkpoint)
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.maps, []).append(setting)
    return [_pass(own, loaded) for own in groups.values()]


def checked(outcome: Poses | Exception, name: str) -> Poses:
    """The poses in an image; raises the error, or ValueError if positions or scores are not finite."""
    if isinstance(outcome, Exception):
        raise located(outcome, name) from outcome
    poses, problems = finite_people(outcome, name)
    if problems:
        raise ValueError(problems[0])
    return poses


def poses_in(pipeline: PosePipeline, maps: DenseMaps, images: Sequence[Image]) -> list[Poses | Exception]:
    """What a pipeline makes of the maps of a batch; after an error, each image is decoded by itself."""
    try:
        found = pipeline.decode(maps)
        for step in pipeline.steps:
            found = step(images, found)
    except Exception as error:
        if len(images) == 1:
            return [error]
        return [poses_in(pipeline, _of_image(maps, i), [image])[0] for i, image in enumerate(images)]
    return list(found)


def _pass(settings: Sequence[Setting], loaded: Loaded) -> Pass:
    source, predictor = loaded.source(settings[0]), loaded.predictor(settings[0])
    facts = skeleton_facts(predictor.skeleton) | network_facts(predictor.network)
    facts |= target_facts(loaded.checkpoint.config["targets"])
    built = {setting.identity: components(setting, facts, source) for setting in settings}
    return Pass(
        settings={setting.identity: setting for setting in settings},
        pipelines={identity: pipeline for identity, (pipeline, _) in built.items()},
        metrics={identity: metrics for identity, (_, metrics) in built.items()},
        predictor=predictor,
        facts=facts,
        source=source,
    )


def components(
    setting: Setting, facts: Mapping[str, Any], source: Source
) -> tuple[PosePipeline, Callable[[Mapping[int, Poses]], dict[str, float]]]:
    """The pipeline of a setting, and the function that computes its metrics; errors name the setting."""
    try:
        pipeline = build_pipeline(setting.config, facts)
        return pipeline, build_evaluation(setting.config.evaluation, source.ground_truth(), source.skeleton)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{setting}: {error}") from error


class _Hold:
    """In place of a decoder: keeps the maps for the steps after it, which see the images as well."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.nobody = vars(Poses.nobody(skeleton))

    def __call__(self, maps: DenseMaps) -> list[Poses]:
        return [Undecoded(**self.nobody, maps=maps, index=i) for i in range(len(maps.heatmaps))]


class _DecodeAll:
    """A step that decodes the maps of a batch in every setting."""

    def __init__(self, pipelines: Mapping[str, PosePipeline]) -> None:
        self.pipelines = pipelines

    def __call__(self, images: Sequence[Image], held: list[Any]) -> list[Poses]:
        nobody = vars(Poses.nobody(held[0].skeleton))
        found = {name: poses_in(each, held[0].maps, images) for name, each in self.pipelines.items()}
        return [
            Decoded(**nobody, by_setting={name: poses[i] for name, poses in found.items()})
            for i in range(len(images))
        ]


def _of_image(maps: DenseMaps, index: int) -> DenseMaps:
    fields = {name: field[index : index + 1] for name, field in maps.fields.items()}
    return DenseMaps(fields, maps.map_from_image[index : index + 1])
