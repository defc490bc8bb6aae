"""``swahr render``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from swahr.build import build_source
from swahr.cli.command import fresh_folder, report, run_command
from swahr.data import SyntheticSource, render_dataset


def render(config: DictConfig) -> None:
    """Write a source of rendered crowds to ``config.output``.

    Raises:
        ValueError: the data are not rendered.
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
        annotations = render_dataset(
            source, folder, style=config.style, progress=lambda: progress.advance(task)
        )
    report({"output": str(folder), "annotations": str(annotations), "images": len(source)})


def main() -> None:
    """Run the command line."""
    run_command("render", render)
