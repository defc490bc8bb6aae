"""Positions on maps, by hand."""

import pytest
import torch

from swahr.targets.pixels import centre_pixels, flat_index, map_indices


def test_convention_map_indices() -> None:
    """The middle of an input is the middle of its maps; officially, indices are divided by the stride."""
    points = torch.tensor([(0.5, 32.0), (2.0, 63.5)])
    torch.testing.assert_close(map_indices(points, 4, "centre"), torch.tensor([(-0.375, 7.5), (0.0, 15.375)]))
    torch.testing.assert_close(
        map_indices(points, 4, "official"), torch.tensor([(0.0, 7.875), (0.375, 15.75)])
    )


@pytest.mark.parametrize(
    ("centre", "alignment", "pixels"),
    [
        ("truncated", "official", [0, 0, 0, 3, -1]),
        ("truncated", "centre", [-1, 0, 0, 4, -1]),
        ("unbiased", "official", [-1, 0, 0, 4, -1]),
        ("unbiased", "centre", [-1, 0, 0, 4, -1]),
    ],
)
def test_convention_pixel_of_a_keypoint(centre: str, alignment: str, pixels: list[int]) -> None:
    indices = torch.tensor([-0.75, -0.5, 0.25, 3.75, -1.25])
    found = centre_pixels(torch.stack([indices, indices], dim=-1), centre, alignment)
    assert found.tolist() == [[pixel, pixel] for pixel in pixels]


def test_flat_index() -> None:
    pixels = torch.tensor([(0, 0), (4, 0), (5, 0), (0, 2), (0, 3), (-1, 1), (4, 2), (1, 1)])
    present = torch.tensor([True] * 7 + [False])
    assert flat_index(pixels, present, (3, 5)).tolist() == [0, 4, -1, 10, -1, -1, 14, -1]
