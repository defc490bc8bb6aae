"""``swahr convert``."""

from pathlib import Path

from omegaconf import DictConfig

from swahr.build import build_network, build_skeleton, model_node, network_facts, skeleton_facts, target_facts
from swahr.checkpoint import save_checkpoint
from swahr.cli.command import fresh_folder, report
from swahr.model.published import load_published, read_published
from swahr.nodes import instantiate
from swahr.provenance import provenance
from swahr.runs.description import describe


def convert(config: DictConfig) -> None:
    """Convert the published weights ``config.published`` to a checkpoint of the configured network.

    Raises:
        ValueError: the weights belong to another network or have no pose heads, or there is no skeleton.
    """
    skeleton = build_skeleton(config.data.skeleton)
    if skeleton is None:
        raise ValueError("data.skeleton=null: expected coco, crowdpose or a skeleton YAML file")
    criterion = instantiate(config.loss, **skeleton_facts(skeleton), **target_facts(config.targets))
    model = model_node(config.model, criterion.needs)
    network = build_network(model, skeleton)
    file = Path(config.published)
    layout = load_published(network, read_published(file), source=str(file))
    if layout.heads is None:
        raise ValueError(
            f"{file}: expected a pose network, got {layout.name}, an ImageNet backbone without pose heads; "
            f"start training from it: swahr train weights={file}"
        )
    folder = fresh_folder(config.output)
    path = folder / f"{file.stem}.safetensors"
    stamp = provenance(seed=None, files=[file])
    description = describe(config, model, network_facts(network), skeleton, stamp)
    save_checkpoint(path, network.state_dict(), description)
    files = {"output": str(folder), "checkpoint": str(path)}
    report({**files, "weights": layout.name, "skeleton": skeleton.name})
