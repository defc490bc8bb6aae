"""One labelled figure of everything a network is taught and says about an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from swahr.draw.figure import INK, add_footer, new_figure, render
from swahr.draw.image_file import check_image
from swahr.draw.maps import (
    Overlay,
    hatch_invalid,
    heatmap_overlay,
    scale_map_overlay,
    tag_overlay,
    weight_map_overlay,
)
from swahr.draw.palette import keypoint_colours
from swahr.structures import Maps, MapTargets

_COLUMNS = 3
_PANEL_WIDTH = 460  # pixels, as are all lengths here
_GAP = 14
_HEADING = 30
_BAR_HEIGHT, _BAR_ROOM = 9, 34
_LEGEND_ENTRY_WIDTH, _LEGEND_LINE = 150, 20
_TITLE_ROOM, _FOOTER_ROOM = 34, 22


def map_panels(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    names: Sequence[str],
    drawn: UInt8[np.ndarray, "H W 3"] | None = None,
    targets: Sequence[MapTargets] = (),
    output: Sequence[Maps] = (),
    index: int = 0,
    title: str = "",
    footer: str = "",
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the maps of one image of a batch side by side, with titles, colour bars and a keypoint legend.

    Panels: the image; target heatmaps, hatched where nothing is learned; predicted heatmaps; tags;
    scale maps; weight maps. What is not given (or whose head is switched off) is left out.

    Args:
        image: RGB, frame: input (the maps cover it exactly).
        names: keypoint names, for the legend.
        drawn: what to show in the first panel instead of the bare image, e.g. the poses drawn over it.
        targets: what the network is taught, per stride.
        output: what the network says, per stride.
        index: which image of the batch ``targets`` and ``output`` to draw.
        title: heading of the figure.
        footer: small print, e.g. which run and file this is.

    Returns:
        The figure, RGB.
    """
    check_image(image)
    panels = [("image", Overlay(image if drawn is None else drawn))]
    for target in targets:
        overlay = heatmap_overlay(image, target.heatmaps[index])
        hatched = Overlay(hatch_invalid(overlay.image, target.valid[index]))
        panels.append((f"target heatmaps, stride {target.stride}", hatched))
    panels += _output_panels(image, output, index)
    return _compose(panels, names, title, footer)


def _output_panels(
    image: UInt8[np.ndarray, "H W 3"], output: Sequence[Maps], index: int
) -> list[tuple[str, Overlay]]:
    """One kind of map after the other, each coarse to fine."""
    heat, tags, scales, weights = [], [], [], []
    for maps in output:
        heatmaps, where = maps.heatmaps[index], f"stride {maps.stride}"
        heat.append((f"heatmaps, {where}", heatmap_overlay(image, heatmaps)))
        if maps.tags is not None:
            tags.append((f"tags, {where}", tag_overlay(image, maps.tags[index], heatmaps)))
        if maps.scales is not None:
            overlay = scale_map_overlay(image, maps.scales[index], heatmaps)
            scales.append((rf"scale map $\alpha$, {where}", overlay))
        if maps.weights is not None:
            weights.append((f"weight map (log), {where}", weight_map_overlay(image, maps.weights[index])))
    return heat + tags + scales + weights


def _compose(
    panels: Sequence[tuple[str, Overlay]], names: Sequence[str], title: str, footer: str
) -> UInt8[np.ndarray, "h w 3"]:
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    image_h, image_w = panels[0][1].image.shape[:2]
    panel_height = round(_PANEL_WIDTH * image_h / image_w)
    tops, bottom = [], _TITLE_ROOM if title else 0
    for row in range(rows):
        has_bars = any(panel.limits for _, panel in panels[row * columns : (row + 1) * columns])
        tops.append(bottom + _HEADING)
        bottom = tops[-1] + panel_height + (_BAR_ROOM if has_bars else 6)
    width = columns * (_PANEL_WIDTH + _GAP) + _GAP
    entries = max(1, (width - 2 * _GAP) // _LEGEND_ENTRY_WIDTH)
    legend = _LEGEND_LINE * -(-len(names) // entries)
    height = bottom + legend + (_FOOTER_ROOM if footer else _GAP)

    figure = new_figure(width, height)
    for position, (heading, overlay) in enumerate(panels):
        row, column = divmod(position, columns)
        corner = (_GAP + column * (_PANEL_WIDTH + _GAP), tops[row])
        _add_panel(figure, heading, overlay, corner, panel_height)
    handles = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*colour), label=name.replace("_", " "))
        for name, colour in zip(names, keypoint_colours(len(names)), strict=True)
    ]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - bottom / height),
        ncols=min(entries, len(names)), fontsize=8, frameon=False, handlelength=1.0, borderaxespad=0.0,
    )  # fmt: skip
    if title:
        figure.text(
            0.5, 1 - 8 / height, title, fontsize=12, color=INK, ha="center", va="top", parse_math=False
        )
    if footer:
        add_footer(figure, footer)
    return render(figure)


def _add_panel(
    figure: Figure, heading: str, overlay: Overlay, corner: tuple[int, int], panel_height: int
) -> None:
    """``corner`` is the panel's left and top in pixels from the figure's top left."""
    width, height = figure.get_size_inches() * figure.dpi
    left, top = corner
    bottom = 1 - (top + panel_height) / height
    axes = figure.add_axes((left / width, bottom, _PANEL_WIDTH / width, panel_height / height))
    axes.imshow(overlay.image, interpolation="antialiased", aspect="auto")
    axes.set_axis_off()
    axes.set_title(heading, fontsize=10, color=INK, loc="left", pad=4)
    if overlay.limits is None:
        return
    bar = figure.add_axes(
        (left / width, bottom - (_BAR_HEIGHT + 4) / height, _PANEL_WIDTH / width, _BAR_HEIGHT / height)
    )
    colours = ScalarMappable(Normalize(*overlay.limits), cmap=overlay.colours)
    figure.colorbar(colours, cax=bar, orientation="horizontal").outline.set_visible(False)
    bar.tick_params(labelsize=7, length=2, pad=1, colors=INK)
