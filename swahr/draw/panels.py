"""One labelled figure of all targets and predictions for an image."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Patch

from swahr.draw.figure import add_footer, new_figure, render
from swahr.draw.maps import Overlay, hatch_invalid, map_overlay
from swahr.draw.palette import Picture, keypoint_colours
from swahr.images import check_image
from swahr.map_kinds import map_kind
from swahr.structures import Maps, MapTargets

T = TypeVar("T", Maps, MapTargets)

_COLUMNS = 3
_PANEL_WIDTH = 470  # pixels
_PANEL_MARGIN = 40  # pixels, for a heading and a colour bar
_LEGEND_ENTRIES, _LEGEND_ROW = 3, 20  # per column of panels, and pixels


def map_panels(
    image: Picture,
    *,
    names: Sequence[str],
    drawn: Picture | None = None,
    targets: Sequence[MapTargets] = (),
    output: Sequence[Maps] = (),
    index: int = 0,
    title: str = "",
    footer: str = "",
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the maps of one image of a batch side by side, with titles, colour bars and a keypoint legend.

    Panels: the image; every target, hatched where nothing is learned; every map that is predicted.

    Args:
        image: RGB, ``(H, W, 3)``, frame: input (the maps cover it exactly).
        names: keypoint names, for the legend.
        drawn: shown in the first panel instead of the bare image, e.g. with the poses drawn over it.
        targets: training targets, per stride.
        output: predictions, per stride.
        index: which image of the batch ``targets`` and ``output`` to draw.
        title: heading of the figure.
        footer: small print, e.g. which run and file this is.
    """
    check_image(image)
    panels = [("image", Overlay(image if drawn is None else drawn))]
    for heading, overlay, target in _overlays(image, targets, index):
        hatched = replace(overlay, image=hatch_invalid(overlay.image, target.valid[index]))
        panels.append((f"target {heading}", hatched))
    panels += [(heading, overlay) for heading, overlay, _ in _overlays(image, output, index)]
    return _compose(panels, names, title, footer)


def _overlays(image: Picture, strides: Sequence[T], index: int) -> Iterator[tuple[str, Overlay, T]]:
    """Heading and overlay of every map: one kind after the other, each coarse to fine."""
    for name in dict.fromkeys(name for maps in strides for name in maps.fields):
        for maps in strides:
            if name in maps.fields:
                overlay = map_overlay(image, name, maps.fields[name][index], maps.heatmaps[index])
                yield f"{map_kind(name).title}, stride {maps.stride}", overlay, maps


def _compose(
    panels: Sequence[tuple[str, Overlay]], names: Sequence[str], title: str, footer: str
) -> UInt8[np.ndarray, "h w 3"]:
    columns, rows = min(_COLUMNS, len(panels)), -(-len(panels) // _COLUMNS)
    image_h, image_w = panels[0][1].image.shape[:2]
    height = rows * (_PANEL_WIDTH * image_h // image_w + _PANEL_MARGIN)
    figure = new_figure(columns * _PANEL_WIDTH, height, layout="compressed")
    for position, (heading, overlay) in enumerate(panels, start=1):
        _add_panel(figure.add_subplot(rows, columns, position), heading, overlay)
    handles = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*colour), label=name.replace("_", " "))
        for name, colour in zip(names, keypoint_colours(len(names)), strict=True)
    ]
    figure.legend(
        handles=handles, ncols=_LEGEND_ENTRIES * columns, fontsize=8, frameon=False, handlelength=1.0,
        loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=figure.transFigure,
    )  # fmt: skip
    if title:
        figure.suptitle(title, parse_math=False)
    legend_rows = -(-len(names) // (_LEGEND_ENTRIES * columns))
    add_footer(figure, footer, y=-(legend_rows + 1) * _LEGEND_ROW / height)
    return render(figure, crop=True)  # which keeps the legend and the footer, below the figure


def _add_panel(axes: Axes, heading: str, overlay: Overlay) -> None:
    axes.imshow(overlay.image)
    axes.set_axis_off()
    axes.set_title(heading, fontsize=10, loc="left", pad=4)
    if overlay.limits is not None:
        colours = ScalarMappable(Normalize(*overlay.limits), cmap=overlay.colours)
        shape = overlay.image.shape[1] / overlay.image.shape[0]  # the bar is as wide, whatever the height
        bar = axes.figure.colorbar(
            colours, ax=axes, location="bottom", aspect=50, fraction=0.02 * shape, pad=0.01 * shape,
            panchor=False,
        )  # fmt: skip
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, length=2, pad=1)
