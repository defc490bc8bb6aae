"""The network's input frames at test time: their sizes, and where the image lies in them."""

from __future__ import annotations

from collections.abc import Sequence

from swahr.geometry import INDEX_FROM_POINT, POINT_FROM_INDEX, Affine, Alignment, fit_rectangle

Size = tuple[int, int]

DEEPEST_STRIDE = 32  # of HRNet's coarsest branch: sides must be multiples of it


def frame_sizes(
    image_size: Size, input_size: int, test_scales: Sequence[float], size_multiple: int
) -> dict[float, Size]:
    """Size (h, w) of the input frame for each test scale.

    As in HigherHRNet, the smallest is found first: its short side is ``input_size * test_scale``, its long
    side follows the image's shape, both rounded up to a multiple of ``size_multiple``. The others are that
    times the ratio of test scales, rounded to a multiple of 32 (the published code rounds to whole pixels,
    and its network then fails on sizes such as 682).
    """
    smallest = min(test_scales)
    short = _round_up(smallest * input_size, size_multiple)
    long = _round_up(short / min(image_size) * max(image_size), size_multiple)
    h, w = (short, long) if image_size[0] <= image_size[1] else (long, short)
    return {
        test_scale: (_rescale(h, test_scale / smallest), _rescale(w, test_scale / smallest))
        for test_scale in test_scales
    }


def input_frame(image_size: Size, input_size: Size, alignment: Alignment) -> Affine:
    """``input_from_image``: the image scaled to the short side of the input, centred along the long one.

    ``centre`` is `swahr.geometry.fit_rectangle`. ``official`` does the same with pixel indices, about the
    image's centre rounded to a whole index.
    """
    if alignment == "centre":
        return fit_rectangle(image_size, input_size)
    (image_h, image_w), (input_h, input_w) = image_size, input_size
    factor = input_w / image_w if image_w < image_h else input_h / image_h
    centre_x, centre_y = float(int(image_w / 2 + 0.5)), float(int(image_h / 2 + 0.5))
    about_centre = Affine.scaling(factor) @ Affine.translation(-centre_x, -centre_y)
    return POINT_FROM_INDEX @ Affine.translation(input_w / 2, input_h / 2) @ about_centre @ INDEX_FROM_POINT


def resized_frame(source_size: Size, target_size: Size, alignment: Alignment) -> Affine:
    """From one input frame to another that shows the same at another size."""
    scaling = Affine.scaling(target_size[1] / source_size[1], target_size[0] / source_size[0])
    return scaling if alignment == "centre" else POINT_FROM_INDEX @ scaling @ INDEX_FROM_POINT


def output_frame(stride: int, alignment: Alignment) -> Affine:
    """``map_from_input`` for reading maps of a stride (1 after projection onto the input).

    ``centre``: a pure scaling. ``official``: positions on the map, times the stride, are taken for pixel
    *indices* of the input, as the published code decodes. That undoes, on average, both its index-aligned
    training maps and their truncated centres, which lie half a map pixel short of the keypoint
    (`swahr.geometry.map_from_input` describes the former alone).
    """
    scaling = Affine.scaling(1.0 / stride)
    return scaling if alignment == "centre" else scaling @ INDEX_FROM_POINT


def _round_up(length: float, multiple: int) -> int:
    return -(-int(length) // multiple) * multiple


def _rescale(length: int, ratio: float) -> int:
    return max(1, round(length * ratio / DEEPEST_STRIDE)) * DEEPEST_STRIDE
