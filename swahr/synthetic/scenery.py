"""Backgrounds, clutter, objects in front of people, and a camera model."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from swahr.synthetic.painter import OBJECT, Canvas
from swahr.synthetic.shapes import SHIFT, to_fixed_point
from swahr.synthetic.textures import GRAIN_DEVIATION, GRAIN_MEAN, cropped, texture_bank

Image = npt.NDArray[np.uint8]
Outline = npt.NDArray[np.float64]
Faces = list[tuple[Outline, float]]
"""Convex outlines and their brightness, from back to front."""


def paint_background(
    rng: np.random.Generator, size: tuple[int, int], horizon: float, clutter: int, contrast: float
) -> Image:
    """A wall or sky above ``horizon`` (pixels), often a floor below it, and ``clutter`` objects.

    ``contrast`` is a factor on the contrast of the surfaces' textures.
    """
    height, width = size
    image = _surface(rng, size, 1.0, contrast)
    if rng.random() < 0.75 and 0 < horizon < height:
        top = int(horizon)
        image[top:] = _surface(rng, (height - top, width), 2.5, contrast)
    for _ in range(clutter):
        _draw_object(rng, image, None, _sample_clutter(rng, size, horizon))
    return image


def _sample_clutter(
    rng: np.random.Generator, size: tuple[int, int], horizon: float
) -> tuple[float, float, float]:
    """The centre (x, y) and the extent of an object, in pixels."""
    extent = size[0] * float(np.exp(rng.uniform(np.log(0.04), np.log(0.4))))
    return rng.uniform(0, size[1]), float(np.clip(rng.normal(horizon, 0.3 * size[0]), 0, size[0])), extent


def _surface(rng: np.random.Generator, size: tuple[int, int], stretch: float, contrast: float) -> Image:
    """A random crop of a random surface, mirrored, magnified and recoloured."""
    surface = texture_bank().surfaces[rng.integers(len(texture_bank().surfaces))]
    wanted = np.array([size[0] * stretch, size[1]]) * rng.uniform(0.35, 1.0) * len(surface) / max(size)
    high, wide = np.clip(wanted, 4, len(surface)).astype(int).tolist()
    top, left = (int(rng.integers(0, len(surface) - extent + 1)) for extent in (high, wide))
    crop = cv2.resize(
        surface[top : top + high, left : left + wide], size[::-1], interpolation=cv2.INTER_LINEAR
    )
    if rng.random() < 0.5:
        crop = cv2.flip(crop, 1)
    alpha = contrast * float(np.exp(rng.normal(0, 0.25)))
    # Contrast is changed about the surface's own mean, so that a faint texture keeps its colour.
    mean = crop.mean(axis=(0, 1)) if contrast != 1 else np.full(3, 128.0)
    shifted = alpha * (crop - mean) + mean + rng.normal(0, 25)
    return np.asarray(np.clip(shifted, 0, 255), dtype=np.uint8)


def _recolouring(rng: np.random.Generator, strength: float) -> Image:
    """A lookup table (256, 1, 3) that changes brightness, contrast and tint."""
    gain = np.exp(rng.normal(0, strength, 1) + rng.normal(0, strength / 4, 3))
    pivot = rng.uniform(90, 160)
    values = pivot + (np.arange(256)[:, None] - pivot) * np.exp(rng.normal(0, strength / 2)) * gain
    values = values + rng.normal(0, 60 * strength)
    return np.asarray(np.clip(values, 0, 255)[:, None], dtype=np.uint8)


def paint_object(rng: np.random.Generator, canvas: Canvas, foot: tuple[float, float], stature: float) -> None:
    """Paint an object that stands on ``foot`` (x, y) in front of a person of ``stature`` pixels."""
    extent = stature * float(rng.uniform(0.12, 0.5))
    _draw_object(rng, canvas.image, canvas.ids, (foot[0], foot[1] - extent / 2, extent))


def _draw_object(
    rng: np.random.Generator,
    image: Image,
    ids: npt.NDArray[np.uint16] | None,
    box: tuple[float, float, float],
) -> None:
    """Draw a random object into ``image`` and ``ids``; ``box`` is its centre (x, y) and rough extent."""
    x, y, extent = box
    faces = _OBJECTS[int(rng.integers(len(_OBJECTS)))](rng, extent)
    muted = rng.random() < 0.5
    colour = rng.uniform(40, 220) + (rng.normal(0, 8, 3) if muted else rng.uniform(-90, 90, 3))
    shades = np.clip(colour * np.array([[tone] for _, tone in faces]), 0, 255).tolist()
    for (outline, _), shade in zip(faces, shades, strict=True):
        polygon = to_fixed_point(outline + np.array([x, y]))
        if ids is not None:
            cv2.fillConvexPoly(ids, polygon, OBJECT, cv2.LINE_8, SHIFT)
        cv2.fillConvexPoly(image, polygon, shade, cv2.LINE_AA, SHIFT)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Outline:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _box(rng: np.random.Generator, extent: float) -> Faces:
    """A crate seen from above and one side."""
    wide, high = extent * rng.uniform(0.25, 0.8), extent * rng.uniform(0.2, 0.5)
    over, up = wide * rng.uniform(-0.5, 0.5), high * rng.uniform(0.1, 0.4)
    side = wide if over > 0 else -wide
    flank = np.array([[side, -high], [side + over, -high - up], [side + over, high - up], [side, high]])
    lid = np.array([[-wide, -high], [-wide + over, -high - up], [wide + over, -high - up], [wide, -high]])
    return [(flank, 0.65), (lid, 1.15), (_rectangle(-wide, -high, wide, high), 0.9)]


def _pole(rng: np.random.Generator, extent: float) -> Faces:
    """A post or a branch, lit along its middle."""
    wide, high = extent * rng.uniform(0.03, 0.1), extent * rng.uniform(1.0, 2.5)
    lean = rng.normal(0, 0.06) * high if rng.random() < 0.7 else rng.choice([-1, 1]) * high
    shape = np.array([[-wide + lean, -high], [wide + lean, -high], [wide, high], [-wide, high]])
    middle = np.array([lean / 2, 0.0])
    return [(middle * (1 - step) + shape * (step, 1.0), 1.2 - 0.5 * step) for step in (1.0, 0.75, 0.45)]


def _ball(rng: np.random.Generator, extent: float) -> Faces:
    turn = np.arange(20) * np.pi / 10
    disc = np.stack([np.cos(turn), rng.uniform(0.7, 1.1) * np.sin(turn)], axis=1) * extent * 0.35
    towards_light = np.array([rng.uniform(-0.3, 0.3), -0.3]) * extent * 0.35
    return [
        (disc * step + towards_light * (1 - step), 1.2 - 0.55 * step**2) for step in (1, 0.92, 0.8, 0.6, 0.35)
    ]


def _table(rng: np.random.Generator, extent: float) -> Faces:
    wide, high, leg = extent * rng.uniform(0.4, 0.9), extent * rng.uniform(0.3, 0.5), extent * 0.035
    legs = [_rectangle(x - leg, -high, x + leg, high) for x in np.linspace(-0.9, 0.9, 4) * wide]
    depth = high * rng.uniform(0.15, 0.5)
    top = np.array(
        [[-wide * 0.85, -high - depth], [wide * 0.85, -high - depth], [wide, -high], [-wide, -high]]
    )
    edge = _rectangle(-wide, -high, wide, -high + 2 * leg)
    return [*((shape, 0.6) for shape in legs), (top, 1.1), (edge, 0.75)]


def _bush(rng: np.random.Generator, extent: float) -> Faces:
    turn = np.arange(8) * np.pi / 4
    leaf = np.stack([np.cos(turn), 0.45 * np.sin(turn)], axis=1) * extent * 0.12
    faces = []
    for angle, distance, tone in zip(
        rng.uniform(0, np.pi, 26), np.sqrt(rng.random(26)), np.sort(rng.uniform(0.5, 1.2, 26)), strict=True
    ):
        c, s = np.cos(angle), np.sin(angle)
        centre = 0.4 * extent * distance * np.array([np.cos(7 * angle), np.sin(7 * angle)])
        faces.append((leaf @ np.array([[c, s], [-s, c]]) + centre, float(tone)))
    return faces


_OBJECTS: tuple[Callable[[np.random.Generator, float], Faces], ...] = (_box, _pole, _ball, _table, _bush)


def photograph(
    rng: np.random.Generator, image: Image, blur: float, noise: float, jpeg_quality: tuple[int, int] | None
) -> Image:
    """The image with random brightness, contrast, tint, blur, noise and compression.

    Args:
        rng: random generator.
        image: RGB.
        blur: maximum standard deviation in pixels.
        noise: maximum standard deviation in grey levels.
        jpeg_quality: range of qualities; None for no compression.
    """
    shot = cv2.LUT(image, _recolouring(rng, 0.14))
    sigma = blur * float(rng.random()) ** 2
    if sigma > 0.2:
        shot = cv2.GaussianBlur(shot, (0, 0), sigma)
    strength = noise / GRAIN_DEVIATION * float(rng.random()) ** 1.5
    if strength > 0.02:
        grain = texture_bank().grain
        corner = (int(rng.integers(len(grain))), int(rng.integers(len(grain))))
        noisy = cropped(grain, corner, (image.shape[0], image.shape[1]))
        shot = cv2.addWeighted(shot, 1.0, noisy, strength, -GRAIN_MEAN * strength)
    if jpeg_quality is not None:
        quality = int(rng.integers(jpeg_quality[0], jpeg_quality[1] + 1))
        _, code = cv2.imencode(
            ".jpg", cv2.cvtColor(shot, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        shot = cv2.cvtColor(_decoded(code), cv2.COLOR_BGR2RGB)
    return np.asarray(shot, dtype=np.uint8)


def _decoded(code: npt.NDArray[np.integer]) -> Image:
    image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert image is not None  # it was just encoded
    return np.asarray(image, dtype=np.uint8)
