"""Segmentations are checked when the file is opened; what can be drawn is drawn in bounded memory."""

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swahr.data import CocoSource

Content = dict[str, Any]
Write = Callable[..., tuple[Path, Path]]


def _peak_memory() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


SEGMENTATIONS = {
    "text": ("1 2 3", "expected polygons or run lengths, got '1 2 3'"),
    "number": (3, "expected polygons or run lengths, got 3"),
    "flat list": ([1, 2, 3, 4, 5, 6], "expected a list of finite numbers, got 1"),
    "not a number": ([[1, 2, float("nan"), 4, 5, 6]], "expected a list of finite numbers"),
    "infinity": ([[1, 2, float("inf"), 4, 5, 6]], "expected a list of finite numbers"),
    "half a point": ([[1, 2, 3, 4, 5, 6, 7]], "expected polygons as x, y pairs, got 7 numbers"),
    "far outside": ([[1, 2, 3, 4, 1e9, 6]], r"in the image of size \(h, w\) = \(80, 60\), got the point"),
    "a long outline": ([[0, 0, 50, 70] * 8000], "outlines of at most 1048576 pixels, got 1120000"),
    "runs without size": ({"counts": [4800]}, r"the image's size \[h, w\] = \[80, 60\], got None"),
    "runs of another size": ({"size": [60, 80], "counts": [4800]}, r"= \[80, 60\], got \[60, 80\]"),
    "runs without counts": ({"size": [80, 60]}, "counts: expected a list of finite numbers, got None"),
    "too few pixels": ({"size": [80, 60], "counts": [4799]}, "image's 4800 pixels, got .* the sum 4799"),
    "negative run": ({"size": [80, 60], "counts": [-1, 4801]}, "add up to the image's 4800 pixels"),
    "fraction of a run": ({"size": [80, 60], "counts": [0.5, 4799.5]}, "add up to the image's 4800 pixels"),
    "a run that ends early": ({"size": [80, 60], "counts": "PPP"}, "correct or remove the run lengths"),
    "runs that end early": ({"size": [80, 60], "counts": "5"}, "correct or remove the run lengths"),
    "letters outside ASCII": ({"size": [80, 60], "counts": "é"}, "correct or remove the run lengths"),
}


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_bad_segmentation_is_found_when_the_file_is_opened(
    case: str, content: Content, write_coco: Write
) -> None:
    segmentation, message = SEGMENTATIONS[case]
    content["annotations"][1]["segmentation"] = segmentation
    path, images = write_coco(content)
    where = f"^{re.escape(str(path))}: annotation 2: 'segmentation'"
    with pytest.raises(ValueError, match=f"{where}.*{message}"):
        CocoSource(path, images)


def test_unused_segmentations_are_not_checked(content: Content, write_coco: Write) -> None:
    content["annotations"][0]["segmentation"] = [[float("nan")] * 6]
    assert CocoSource(*write_coco(content))[0].valid[:60, :40].all()


def test_the_longest_outlines_need_little_memory(content: Content, write_coco: Write) -> None:
    content["annotations"][1]["segmentation"] = [[0, 0, 59, 79] * 6000 + [0, 79]] * 3
    source = CocoSource(*write_coco(content))
    before = _peak_memory()
    assert not source[0].valid.all()
    assert _peak_memory() - before < 400 * 2**20
