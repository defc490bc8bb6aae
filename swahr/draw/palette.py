"""Colours that stay apart: one hue per person or keypoint, chosen in a perceptually even space (OKLCH)."""

import math

import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "H W 3"]  # RGB
Colour = tuple[int, int, int]  # RGB, 0 to 255
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

_GOLDEN_ANGLE = 180.0 * (3.0 - math.sqrt(5.0))
_LIGHTNESSES = (0.72, 0.82, 0.66)
_CONES = np.array([[1, 0.3963, 0.2158], [1, -0.1056, -0.0639], [1, -0.0895, -1.2915]])
_LINEAR = np.array([[4.0767, -3.3077, 0.2310], [-1.2684, 2.6098, -0.3413], [-0.0042, -0.7034, 1.7076]])


def person_colour(index: int) -> Colour:
    """The colour of the ``index``-th person: neighbours in the list are a golden angle apart in hue."""
    return _from_oklch(_LIGHTNESSES[index % len(_LIGHTNESSES)], 0.19, 250.0 + index * _GOLDEN_ANGLE)


def keypoint_colours(count: int) -> tuple[Colour, ...]:
    """``count`` colours evenly around the hue circle, alternating in lightness."""
    return tuple(_from_oklch(0.70 + 0.12 * (i % 2), 0.18, 25.0 + 360.0 * i / count) for i in range(count))


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """``colour`` with a ``share`` (0 to 1) of ``other`` mixed in."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _from_oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """Lightness 0 to 1, chroma 0 to about 0.3, hue in degrees (Ottosson, "OKLab", 2020); clipped to sRGB."""
    angle = math.radians(hue)
    cones = _CONES @ (lightness, chroma * math.cos(angle), chroma * math.sin(angle))
    linear = np.clip(_LINEAR @ cones**3, 0.0, 1.0)
    red, green, blue = (round(255 * max(0.0, 1.055 * x ** (1 / 2.4) - 0.055)) for x in linear.tolist())
    return red, green, blue
