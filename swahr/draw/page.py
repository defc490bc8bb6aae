"""Contact sheets: many pictures on one page, each with a caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from swahr.draw.figure import INK, add_footer, new_figure, render
from swahr.draw.image_file import check_image

_MARGIN = 12  # pixels around every cell
_FONT_SIZE = 9
_LINE_HEIGHT = 17  # pixels
_CHARACTER_WIDTH = 6.6  # pixels, of the default font at `_FONT_SIZE`
_CAPTION_LINES = 2


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    titles: Sequence[str],
    *,
    columns: int = 4,
    cell_size: tuple[int, int] = (270, 360),
    footer: str = "",
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay pictures out in rows, left to right, each fitted into a cell with its caption above.

    Args:
        images: RGB, of any sizes.
        titles: one caption each; long ones are cut after two lines.
        columns: cells per row.
        cell_size: (h, w) in pixels that each picture is fitted into, keeping its shape.
        footer: small print at the bottom, e.g. which run made the page.

    Raises:
        ValueError: no images, or another number of titles.
    """
    if not images or len(images) != len(titles) or columns < 1:
        raise ValueError(
            f"expected at least one image, a title for each and at least one column, got {len(images)} "
            f"images, {len(titles)} titles and {columns} columns"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    caption = _CAPTION_LINES * _LINE_HEIGHT
    cell_h, cell_w = cell_size
    pitch_x, pitch_y = cell_w + _MARGIN, cell_h + caption + _MARGIN
    width = columns * pitch_x + _MARGIN
    height = rows * pitch_y + _MARGIN + (_LINE_HEIGHT if footer else 0)
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    figure = new_figure(width, height)
    for position, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(position, columns)
        left, top = _MARGIN + column * pitch_x, _MARGIN + row * pitch_y + caption
        fitted = _fit(image, cell_size)
        x, y = left + (cell_w - fitted.shape[1]) // 2, top
        page[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
        figure.text(
            x / width, 1 - (top - 4) / height, _wrap(title, cell_w), fontsize=_FONT_SIZE, color=INK,
            ha="left", va="bottom", linespacing=1.15, parse_math=False,
        )  # fmt: skip
    if footer:
        add_footer(figure, footer)
    # figimage neither resamples nor moves pixels, as axes would.
    figure.figimage(page, 0, 0, origin="upper", zorder=-1)
    return render(figure)


def _fit(image: UInt8[np.ndarray, "h w 3"], cell_size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    check_image(image)
    height, width = image.shape[:2]
    factor = min(cell_size[0] / height, cell_size[1] / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _wrap(title: str, width: int) -> str:
    columns = max(4, int(width / _CHARACTER_WIDTH))
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, columns)]
    if len(lines) > _CAPTION_LINES:
        lines = [*lines[: _CAPTION_LINES - 1], lines[_CAPTION_LINES - 1][: columns - 1] + "…"]
    return "\n".join(lines)
