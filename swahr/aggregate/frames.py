"""The network's input frames at test time: their sizes, and the image's position in them."""

from collections.abc import Sequence

from swahr.geometry import INDEX_FROM_POINT, POINT_FROM_INDEX, Affine, Alignment, fit_rectangle

Size = tuple[int, int]


def frame_sizes(
    image_size: Size, input_size: int, test_scales: Sequence[float], round_to: int, size_multiple: int
) -> dict[float, Size]:
    """Return the size (h, w) of the input frame for each test scale.

    As in HigherHRNet, the smallest is computed first: its short side is ``input_size * test_scale``, its long
    side has the image's proportion, both rounded up to a multiple of ``round_to``. The others are this times
    the ratio of test scales, rounded to a multiple of ``size_multiple`` (the published code rounds to whole
    pixels, and its network then fails on sizes such as 682).
    """
    smallest = min(test_scales)
    short = _round_up(smallest * input_size, round_to)
    long = _round_up(short / min(image_size) * max(image_size), round_to)
    h, w = (short, long) if image_size[0] <= image_size[1] else (long, short)
    sizes = {}
    for test_scale in test_scales:
        ratio = test_scale / smallest
        sizes[test_scale] = (_rescale(h, ratio, size_multiple), _rescale(w, ratio, size_multiple))
    return sizes


def input_frame(image_size: Size, input_size: Size, alignment: Alignment) -> Affine:
    """Return ``input_from_image``: the image fits the input's short side and is centred on the long one.

    ``centre`` is `swahr.geometry.fit_rectangle`. ``official`` is the same for pixel indices, about the
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
    """Return the mapping from one input frame to another with the same content and another size."""
    scaling = Affine.scaling(target_size[1] / source_size[1], target_size[0] / source_size[0])
    return scaling if alignment == "centre" else POINT_FROM_INDEX @ scaling @ INDEX_FROM_POINT


def output_frame(stride: int, alignment: Alignment) -> Affine:
    """Return ``map_from_input`` for decoding maps of a stride (1 after projection to the input's size).

    ``centre`` is a pure scaling. ``official`` treats map positions times the stride as pixel *indices* of the
    input, as in the published code. On average this undoes both its index-aligned training maps
    (`swahr.geometry.map_from_input`) and their truncated centres, which lie half a map pixel before the
    keypoint.
    """
    scaling = Affine.scaling(1.0 / stride)
    return scaling if alignment == "centre" else scaling @ INDEX_FROM_POINT


def _round_up(length: float, multiple: int) -> int:
    return -(-int(length) // multiple) * multiple


def _rescale(length: int, ratio: float, multiple: int) -> int:
    return max(1, round(length * ratio / multiple)) * multiple
