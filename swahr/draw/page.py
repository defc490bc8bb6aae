"""Contact sheets: many pictures on one page, each with a caption."""

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib.transforms import Bbox

from swahr.draw.figure import add_footer, new_figure, render
from swahr.draw.palette import Picture
from swahr.images import check_image

_MARGIN = 12  # pixels around every cell, as are all lengths here
_LINE_HEIGHT = 17
_CHARACTER_WIDTH = 6.6  # on average, of captions of 8.5 points


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    titles: Sequence[str],
    *,
    columns: int = 4,
    cell_size: tuple[int, int] = (360, 400),
    footer: str = "",
) -> Picture:
    """Lay pictures out in rows, left to right, each fitted into a cell with its caption above it.

    Args:
        images: RGB, ``(h, w, 3)`` of any sizes.
        titles: one caption each; long ones are wrapped, and cut after two lines.
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
    cell_w = max(120, *(picture.shape[1] for picture in pictures))  # at least room for a caption
    wrapped = [textwrap.wrap(title, int(cell_w / _CHARACTER_WIDTH)) for title in titles]
    captions = [[lines[0], lines[1][:-1] + "…"] if len(lines) > 2 else lines for lines in wrapped]
    caption_h = _MARGIN + _LINE_HEIGHT * max(len(lines) for lines in captions)
    heights = [picture.shape[0] for picture in pictures]
    rows = [caption_h + max(heights[i : i + columns]) for i in range(0, len(images), columns)]
    height = sum(rows) + (_MARGIN + _LINE_HEIGHT if footer else _MARGIN)
    width = columns * (cell_w + _MARGIN) + _MARGIN
    figure = new_figure(width, height)
    for i, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(i, columns)
        top, left = sum(rows[:row]) + caption_h, _MARGIN + column * (cell_w + _MARGIN)
        figure.figimage(picture, left, height - top - picture.shape[0], origin="upper")  # not resampled
        corner = (left / width, 1 - (top - 4) / height)
        text = figure.text(*corner, "\n".join(lines), fontsize=8.5, va="bottom", parse_math=False)
        text.set(clip_on=True, clip_box=Bbox.from_bounds(left, 0, cell_w, height))
    add_footer(figure, footer)
    return render(figure)


def _fit(image: UInt8[np.ndarray, "h w 3"], cell_size: tuple[int, int]) -> Picture:
    check_image(image)
    height, width = image.shape[:2]
    factor = min(cell_size[0] / height, cell_size[1] / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)
