"""Composition of data and their evaluation, for training and for commands that read annotated images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from swahr.build import build_skeleton
from swahr.data.datamodule import PoseDataModule
from swahr.evaluation import check_evaluable, person_category, results_from_poses
from swahr.nodes import instantiate
from swahr.skeleton import Skeleton
from swahr.structures import Poses


def build_source(node: DictConfig, skeleton: str | Skeleton | None, *, insist: bool = False) -> Any:
    """A source of labelled images (`swahr.data.Source`); ``insist`` also on implausible annotations."""
    if not insist:
        return instantiate(node, **_data_facts(skeleton))
    plain: Any = OmegaConf.to_container(node, resolve=True)
    values = {key: value for key, value in plain.items() if key != "insist"}
    return instantiate(values, **_data_facts(skeleton), insist=True)


def build_data(config: DictConfig) -> PoseDataModule:
    """Training and validation data; raises ValueError unless both have the same keypoints."""
    module: PoseDataModule = instantiate(
        config.data.module, seed=config.seed, **_data_facts(config.data.skeleton)
    )
    return module


def _data_facts(skeleton: str | Skeleton | None) -> dict[str, Any]:
    built = build_skeleton(skeleton)
    return {} if built is None else {"skeleton": built}


def annotation_files(nodes: Sequence[DictConfig]) -> list[str]:
    """The annotation files of sources of images and layouts, also in a mix, and of an augmentation."""
    own = {str(node[key]) for node in nodes for key in ("annotations", "layouts") if node.get(key)}
    own |= {str(node.boxes.path) for node in nodes if node.get("boxes")}
    mixed = [part for node in nodes for part in (node.get("sources") or {}).values()]
    return sorted(own.union(annotation_files(mixed) if mixed else ()))


def build_evaluation(
    node: DictConfig, ground_truth: Mapping[str, Any], skeleton: Skeleton
) -> Callable[[Mapping[int, Poses]], dict[str, float]]:
    """A function that returns the protocol's metrics, given the poses in each image by id.

    Raises:
        ValueError: the ground truth does not suit the protocol, or has nobody to find.
    """
    evaluator = instantiate(node)
    check_evaluable(evaluator, ground_truth, skeleton)
    category = person_category(ground_truth, skeleton)

    def evaluate(poses: Mapping[int, Poses]) -> dict[str, float]:
        # Only the given images count: training may limit validation to a part of them.
        images = [image for image in ground_truth["images"] if image["id"] in poses]
        annotations = [one for one in ground_truth["annotations"] if one["image_id"] in poses]
        part = {**ground_truth, "images": images, "annotations": annotations}
        metrics: dict[str, float] = evaluator(part, results_from_poses(poses, category_id=category), skeleton)
        return metrics

    return evaluate
