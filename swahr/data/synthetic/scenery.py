"""What surrounds the people: backgrounds, clutter, objects in front of them, and the camera's faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from swahr.data.synthetic.painter import THING, Canvas
from swahr.data.synthetic.shapes import SHIFT, to_fixed_point
from swahr.data.synthetic.textures import texture_bank

Picture = npt.NDArray[np.uint8]


def paint_background(
    rng: np.random.Generator, size: tuple[int, int], horizon: float, clutter: int
) -> Picture:
    """A wall or sky above ``horizon`` (pixels), a floor below it, and ``clutter`` things in between."""
    height, width = size
    image = _surface(rng, size, stretch=1.0)
    if rng.random() < 0.75 and 0 < horizon < height:
        top = int(horizon)
        image[top:] = _surface(rng, (height - top, width), stretch=2.5)
    for _ in range(clutter):
        _paint_thing(rng, image, None, _clutter_place(rng, size, horizon))
    return image


def _clutter_place(
    rng: np.random.Generator, size: tuple[int, int], horizon: float
) -> tuple[float, float, float]:
    extent = size[0] * float(np.exp(rng.uniform(np.log(0.04), np.log(0.4))))
    return rng.uniform(0, size[1]), float(np.clip(rng.normal(horizon, 0.3 * size[0]), 0, size[0])), extent


def _surface(rng: np.random.Generator, size: tuple[int, int], stretch: float) -> Picture:
    """A random crop of a random surface, turned, magnified and recoloured."""
    surface = texture_bank().surfaces[rng.integers(len(texture_bank().surfaces))]
    span = len(surface) * rng.uniform(0.35, 1.1) / max(size)
    matrix = np.array([[span, 0.0, 0.0], [0.0, span * stretch, 0.0]])
    matrix[:, 2] = rng.uniform(0, len(surface), 2)
    if rng.random() < 0.3:
        matrix[:, :2] = matrix[::-1, :2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(surface, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.LUT(crop, _recolouring(rng, 0.45)))


def _recolouring(rng: np.random.Generator, strength: float) -> Picture:
    """A lookup table (256, 1, 3) that changes brightness, contrast and tint."""
    gain = np.exp(rng.normal(0, strength, 1) + rng.normal(0, strength / 4, 3))
    pivot = rng.uniform(90, 160)
    values = pivot + (np.arange(256)[:, None] - pivot) * np.exp(rng.normal(0, strength / 2)) * gain
    values = values + rng.normal(0, 60 * strength)
    return np.clip(values, 0, 255).astype(np.uint8)[:, None]


def paint_object(rng: np.random.Generator, canvas: Canvas, foot: tuple[float, float], stature: float) -> None:
    """An object that stands on ``foot`` (x, y), among people of ``stature`` pixels, and hides what is behind."""
    extent = stature * float(rng.uniform(0.12, 0.5))
    _paint_thing(rng, canvas.image, canvas.ids, (foot[0], foot[1] - extent / 2, extent))


def _paint_thing(
    rng: np.random.Generator,
    image: Picture,
    ids: npt.NDArray[np.uint16] | None,
    place: tuple[float, float, float],
) -> None:
    """Draw a random thing at (x, y) of about ``extent`` pixels, in the picture and in the id buffer if given."""
    x, y, extent = place
    kinds = list(_OUTLINES)
    outline = _OUTLINES[kinds[int(rng.integers(len(kinds)))]](rng, extent) + (x, y)
    polygon = to_fixed_point(outline)
    if ids is not None:
        cv2.fillConvexPoly(ids, polygon, THING, cv2.LINE_8, SHIFT)
    colour = rng.uniform(20, 235, 3) * (1.0 if rng.random() < 0.5 else 0.0) + rng.uniform(10, 120)
    cv2.fillConvexPoly(image, polygon, np.minimum(colour * 0.75, 255).tolist(), cv2.LINE_AA, SHIFT)
    centre = outline.mean(axis=0)
    for step, tone in ((0.86, 0.95), (0.55, 1.06)):
        inner = to_fixed_point(centre + (outline - centre) * step - 0.05 * extent * (1 - step))
        cv2.fillConvexPoly(image, inner, np.minimum(colour * tone, 255).tolist(), cv2.LINE_AA, SHIFT)


def _box(rng: np.random.Generator, extent: float) -> npt.NDArray[np.float64]:
    wide, high, slant = (
        extent * rng.uniform(0.4, 1.6),
        extent * rng.uniform(0.3, 1.0),
        extent * rng.uniform(-0.1, 0.1),
    )
    return np.array([[-wide, -high], [wide, -high + slant], [wide, high], [-wide, high - slant]]) / 2


def _pole(rng: np.random.Generator, extent: float) -> npt.NDArray[np.float64]:
    wide, high = extent * rng.uniform(0.05, 0.18), extent * rng.uniform(2.0, 5.0)
    lean = rng.normal(0, 0.1) * high if rng.random() < 0.7 else rng.choice([-1, 1]) * high
    return np.array([[-wide + lean, -high], [wide + lean, -high], [wide, high], [-wide, high]]) / 2


def _ball(rng: np.random.Generator, extent: float) -> npt.NDArray[np.float64]:
    turn = np.arange(20) * np.pi / 10
    return np.stack([np.cos(turn), rng.uniform(0.6, 1.2) * np.sin(turn)], axis=1) * extent * 0.4


def _shard(rng: np.random.Generator, extent: float) -> npt.NDArray[np.float64]:
    turn = np.sort(rng.uniform(0, 2 * np.pi, 6))
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * extent * rng.uniform(0.4, 0.7, (1, 2))


_OUTLINES: Mapping[str, Callable[[np.random.Generator, float], npt.NDArray[np.float64]]] = {
    "box": _box,
    "pole": _pole,
    "ball": _ball,
    "shard": _shard,
}


def photograph(
    rng: np.random.Generator, image: Picture, blur: float, noise: float, jpeg_quality: tuple[int, int] | None
) -> Picture:
    """Light, lens, sensor and file format.

    ``blur`` and ``noise`` are the greatest standard deviations (pixels, grey levels) of which each image gets
    a random share; the JPEG quality is drawn from its range.
    """
    image = cv2.LUT(image, _recolouring(rng, 0.14))
    sigma = blur * float(rng.random()) ** 2
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    strength = noise * float(rng.random()) ** 1.5 / 40.0
    if strength > 0.02:
        grain = texture_bank().grain
        height, width = image.shape[:2]
        rows, columns = (-(-length // len(grain)) for length in (height, width))
        grain = np.tile(grain, (rows, columns, 1)) if rows * columns > 1 else grain
        top = int(rng.integers(0, len(grain) - height + 1))
        left = int(rng.integers(0, grain.shape[1] - width + 1))
        crop = grain[top : top + height, left : left + width]
        image = cv2.addWeighted(image, 1.0, crop, strength, -128.0 * strength)
    if jpeg_quality is not None:
        quality = int(rng.integers(jpeg_quality[0], jpeg_quality[1] + 1))
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return np.asarray(image, dtype=np.uint8)
