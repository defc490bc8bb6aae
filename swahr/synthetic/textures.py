"""Banks of procedural textures: cloth patterns, surfaces for backgrounds, film grain.

They are generated from a fixed seed, so rendering needs no files and every process has the same textures.
Images use random crops, mirrored and recoloured.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
Colour = npt.NDArray[np.uint8]

TILE = 256
_SURFACE = 384
_GRAIN = 1024
GRAIN_MEAN, GRAIN_DEVIATION = 128.0, 40.0
_SURFACES_PER_KIND = 4


@dataclass(frozen=True, eq=False)
class TextureBank:
    """All textures: ``patterns`` and ``glow`` are grey, the others RGB.

    ``patterns`` are periodic; ``folds`` are factors (times 64) on the brightness of cloth.
    """

    patterns: tuple[Gray, ...]
    folds: Colour
    surfaces: tuple[Colour, ...]
    grain: Colour
    glow: Gray


@cache
def texture_bank() -> TextureBank:
    """The textures, cached per process; the first call takes about a third of a second."""
    rng = np.random.default_rng(20210)
    makers = (_ramp_surface, _wood, _bricks, _panels, _foliage, _bokeh)
    surfaces = tuple(make(rng) for make in makers for _ in range(_SURFACES_PER_KIND))
    grain = np.clip(rng.normal(GRAIN_MEAN, GRAIN_DEVIATION, (_GRAIN, _GRAIN, 3)), 0, 255).astype(np.uint8)
    creases = 13 * _cloud(rng, 2 * TILE, (12, 24, 48)) + 5 * _cloud(rng, 2 * TILE, (128, 256))
    folds = np.repeat(_to_gray((128 + creases) / 2)[..., None], 3, axis=2)
    ramp = np.linspace(-1, 1, 64)
    radius = np.hypot(ramp[:, None], ramp)
    glow = _to_gray(255 * np.clip(1 - radius, 0, 1) ** 1.2)
    return TextureBank(_patterns(rng), folds, surfaces, grain, glow)


def cropped(texture: Colour, chance: tuple[int, int], size: tuple[int, int]) -> Colour:
    """A crop of ``size`` (h, w), at an offset derived from two integers; small textures are tiled."""
    rows, columns = (-(-wanted // have) for wanted, have in zip(size, texture.shape, strict=False))
    large = np.tile(texture, (rows, columns, 1)) if rows * columns > 1 else texture
    top, left = (n % (have - wanted + 1) for n, have, wanted in zip(chance, large.shape, size, strict=False))
    return large[top : top + size[0], left : left + size[1]]


def _to_gray(values: npt.NDArray[np.float64]) -> Gray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, size: int, cells: tuple[int, ...], stretch: int = 1) -> np.ndarray:
    """Periodic noise of about unit standard deviation with the given numbers of cells per side."""
    total = np.zeros((size, size))
    for octave, count in enumerate(cells):
        lattice = rng.normal(size=(max(count // stretch, 1), count))
        lattice = np.pad(lattice, 2, mode="wrap")
        rows, columns = (size * n // (n - 4) for n in lattice.shape)
        noise = cv2.resize(lattice, (columns, rows), interpolation=cv2.INTER_CUBIC)
        top, left = (rows - size) // 2, (columns - size) // 2
        total += noise[top : top + size, left : left + size] * 0.6**octave
    return np.asarray(total / max(total.std(), 1e-6))


def _patterns(rng: np.random.Generator) -> tuple[Gray, ...]:
    """Cloth patterns: 0 is the garment's first colour, 255 its second."""
    y, x = np.mgrid[0:TILE, 0:TILE] * (2 * np.pi / TILE)
    stripes = [
        np.sin(16 * y),
        np.sin(8 * y) - 0.5,
        np.sin(16 * x),
        np.sin(32 * x) - 0.6,
        np.sin(6 * y) - 0.85,
    ]
    checks = [np.sin(12 * x) * np.sin(12 * y), np.maximum(np.sin(10 * x), np.sin(10 * y)) - 0.6]
    dots = [np.cos(14 * x) + np.cos(14 * y) - 1.2, np.cos(24 * x) + np.cos(24 * y) - 1.2]
    blots = [_cloud(rng, TILE, (10, 20)) - 0.3, _cloud(rng, TILE, (24, 48)) - 0.6]
    hard = [_to_gray(128 + 600 * p) for p in (*stripes, *checks, *dots, *blots)]
    soft = [
        _to_gray(90 + 60 * _cloud(rng, TILE, (16, 64, 128))),
        _to_gray(80 * (2 + np.sin(9 * x) + np.sin(9 * y)) / 2),
    ]
    return tuple(np.asarray(cv2.GaussianBlur(tile, (3, 3), 0), np.uint8) for tile in (*hard, *soft))


def _colours(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Colours of similar hue and moderate saturation."""
    hue = rng.choice([15, 25, 45, 60, 105, rng.uniform(0, 180)]) + rng.normal(0, 9, count)
    saturation = rng.uniform(0, 130) * rng.uniform(0.5, 1.0, count)
    hsv = np.stack([hue % 180, saturation, rng.uniform(45, 235, count)], axis=1)
    return np.asarray(cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0], dtype=np.float64)


def _colourise(rng: np.random.Generator, noise: np.ndarray, steps: int = 3) -> Colour:
    ramp = _colours(rng, steps)
    level = np.clip((noise + 2) / 4, 0, 1)[..., None] * (steps - 1)
    lower = np.minimum(level.astype(int), steps - 2)
    mixed = ramp[lower[..., 0]] * (1 - (level - lower)) + ramp[lower[..., 0] + 1] * (level - lower)
    return np.asarray(mixed.clip(0, 255).astype(np.uint8))


def _ramp_surface(rng: np.random.Generator) -> Colour:
    return _colourise(
        rng, _cloud(rng, _SURFACE, ((2, 4, 8, 32), (8, 32, 96), (3, 48), (1, 2))[rng.integers(4)])
    )


def _wood(rng: np.random.Generator) -> Colour:
    return _colourise(rng, _cloud(rng, _SURFACE, (24, 60, 120), stretch=12))


def _bricks(rng: np.random.Generator) -> Colour:
    base = _colourise(rng, _cloud(rng, _SURFACE, (12, 96)))
    mortar = [int(v) for v in _colours(rng, 1)[0]]
    high, wide = int(rng.integers(14, 48)), int(rng.integers(24, 96))
    for row, top in enumerate(range(0, _SURFACE, high)):
        cv2.line(base, (0, top), (_SURFACE, top), mortar, 2)
        for left in range((row % 2) * wide // 2, _SURFACE, wide):
            cv2.line(base, (left, top), (left, top + high), mortar, 2)
    return base


def _panels(rng: np.random.Generator) -> Colour:
    base = _colourise(rng, _cloud(rng, _SURFACE, (2, 64)))
    colours = _colours(rng, 3).tolist()
    high, wide = int(rng.integers(30, 110)), int(rng.integers(24, 90))
    for top in range(high // 4, _SURFACE, high):
        for left in range(wide // 4, _SURFACE, wide):
            corner = (left + int(wide * 0.6), top + int(high * 0.6))
            cv2.rectangle(base, (left, top), corner, colours[int(rng.integers(3))], -1)
            cv2.rectangle(base, (left, top), corner, colours[0], 2)
    return base


def _foliage(rng: np.random.Generator) -> Colour:
    base = _colourise(rng, _cloud(rng, _SURFACE, (4, 16)))
    colours = _colours(rng, 6)
    for _ in range(500):
        centre, axes = rng.integers(0, _SURFACE, 2).tolist(), rng.integers(3, 18, 2).tolist()
        colour = (colours[int(rng.integers(6))] * rng.uniform(0.5, 1.1)).clip(0, 255).tolist()
        cv2.ellipse(base, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return base


def _bokeh(rng: np.random.Generator) -> Colour:
    base = _colourise(rng, _cloud(rng, _SURFACE, (2, 5)))
    for colour in _colours(rng, 60).tolist():
        centre, radius = rng.integers(0, _SURFACE, 2).tolist(), int(rng.integers(6, 60))
        cv2.circle(base, centre, radius, colour, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(base, (0, 0), float(rng.uniform(1, 8))))
