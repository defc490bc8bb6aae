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
_NARROWEST_CELL = 120  # pixels, so that there is room for a caption


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    titles: Sequence[str],
    *,
    columns: int = 4,
    cell_size: tuple[int, int] = (360, 400),
    footer: str = "",
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay pictures out in rows, left to right, each fitted into a cell with its caption above it.

    Args:
        images: RGB, of any sizes.
        titles: one caption each; long ones are cut after two lines.
        columns: cells per row.
        cell_size: (h, w) in pixels that each picture is fitted into, keeping its shape. Columns are as
            wide, and rows as high, as the pictures in them need.
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
    pictures = [_fit(image, cell_size) for image in images]
    cell_w = max(_NARROWEST_CELL, *(picture.shape[1] for picture in pictures))
    captions = [_wrap(title, cell_w) for title in titles]
    caption_h = _LINE_HEIGHT * max(len(caption.splitlines()) for caption in captions)
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    tops, top = [], _MARGIN
    for row in rows:
        tops.append(top + caption_h)
        top = tops[-1] + max(pictures[i].shape[0] for i in row) + _MARGIN
    width = columns * (cell_w + _MARGIN) + _MARGIN
    height = top + (_LINE_HEIGHT if footer else 0)
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    figure = new_figure(width, height)
    for top, row in zip(tops, rows, strict=True):
        for column, i in enumerate(row):
            left = _MARGIN + column * (cell_w + _MARGIN)
            picture_h, picture_w = pictures[i].shape[:2]
            page[top : top + picture_h, left : left + picture_w] = pictures[i]
            figure.text(
                left / width, 1 - (top - 4) / height, captions[i], fontsize=_FONT_SIZE,
                color=INK, ha="left", va="bottom", linespacing=1.15, parse_math=False,
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
