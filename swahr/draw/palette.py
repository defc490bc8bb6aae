"""Colours that stay apart: one hue per person or keypoint, chosen in a perceptually even space (OKLCH)."""

from __future__ import annotations

import math

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

_GOLDEN_ANGLE = 180.0 * (3.0 - math.sqrt(5.0))
_FIRST_HUE = 250.0
_LIGHTNESSES = (0.72, 0.82, 0.66)


def person_colour(index: int) -> Colour:
    """The colour of the ``index``-th person: neighbours in the list lie a golden angle apart in hue."""
    return _from_oklch(_LIGHTNESSES[index % len(_LIGHTNESSES)], 0.19, _FIRST_HUE + index * _GOLDEN_ANGLE)


def keypoint_colours(count: int) -> tuple[Colour, ...]:
    """``count`` colours evenly around the hue circle, alternating in lightness."""
    return tuple(_from_oklch(0.70 + 0.12 * (i % 2), 0.18, 25.0 + 360.0 * i / count) for i in range(count))


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """``colour`` with a ``share`` (0 to 1) of ``other`` mixed in."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _from_oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """Lightness and chroma of about 0 to 1 and 0 to 0.3, hue in degrees (Ottosson, "OKLab", 2020)."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _encode(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _encode(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _encode(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _encode(linear: float) -> int:
    """Linear light to an sRGB byte."""
    linear = min(max(linear, 0.0), 1.0)
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * encoded)
