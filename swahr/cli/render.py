"""``swahr render``."""

from functools import partial

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from swahr.build_data import build_source
from swahr.cli.command import fresh_folder, report
from swahr.synthetic import SyntheticSource, render_dataset


def render(config: DictConfig) -> None:
    """Write a data set of rendered crowds to ``config.output``.

    Raises:
        ValueError: the configured data are not rendered.
    """
    node = config.data.module[config.split].copy()
    if config.count is not None and "size" in node:
        node.size = config.count
    source = build_source(node, config.data.skeleton)
    if not isinstance(source, SyntheticSource):
        raise ValueError(  # noqa: TRY004 - the configuration is wrong, not a type
            f"expected rendered data, got {type(source).__name__}; choose data=synthetic_moderate, "
            "synthetic_full or synthetic_layouts"
        )
    folder = fresh_folder(config.output)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("rendering", total=len(source))
        advance = partial(progress.advance, task)
        annotations = render_dataset(source, folder, style=config.style, progress=advance)
    report({"output": str(folder), "annotations": str(annotations), "images": len(source)})
