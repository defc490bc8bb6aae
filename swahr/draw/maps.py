"""Maps over images: heatmaps, tags, scale maps and weight maps, each enlarged to the image it belongs to.

All maps are ``(k, h, w)`` tensors that cover the whole image (frame: map of any stride); enlarging is then a
pure scaling, see `swahr.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from swahr.draw.image_file import check_image
from swahr.draw.palette import keypoint_colours

TAG_COLOURS = "turbo"
SCALE_COLOURS = "RdBu_r"
WEIGHT_COLOURS = "PuOr_r"

_DIMMED = 0.45  # how much of the image's brightness stays under a map
_SUPPORT = 0.1  # heatmap value from which a pixel is taken to belong to a keypoint


@dataclass(frozen=True, eq=False)
class Overlay:
    """A map drawn over an image, and the values its colours stand for (None when colours name keypoints)."""

    image: UInt8[np.ndarray, "H W 3"]
    limits: tuple[float, float] | None = None
    colours: str | None = None


def draw_heatmaps(
    image: UInt8[np.ndarray, "H W 3"], heatmaps: Float[Tensor, "k h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay heatmaps over an image: hue says which keypoint, opacity is the largest value (clipped to 0..1)."""
    return heatmap_overlay(image, heatmaps).image


def draw_tags(
    image: UInt8[np.ndarray, "H W 3"], tags: Float[Tensor, "k h w"], heatmaps: Float[Tensor, "k h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay tags over an image: the tag of the likeliest keypoint, where there is one; people differ in it."""
    return tag_overlay(image, tags, heatmaps).image


def draw_scale_map(
    image: UInt8[np.ndarray, "H W 3"], scale_map: Float[Tensor, "k h w"], heatmaps: Float[Tensor, "k h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a scale map alpha over an image, where there are keypoints: red narrows Gaussians, blue widens."""
    return scale_map_overlay(image, scale_map, heatmaps).image


def draw_weight_map(
    image: UInt8[np.ndarray, "H W 3"], weight_map: Float[Tensor, "k h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a log weight map v (weight exp v) over an image: orange weighs more than 1, purple less.

    Of the keypoints, the one that departs the most from v = 0 is seen.
    """
    return weight_map_overlay(image, weight_map).image


def heatmap_overlay(image: UInt8[np.ndarray, "H W 3"], heatmaps: Float[Tensor, "k h w"]) -> Overlay:
    """See `draw_heatmaps`."""
    enlarged = np.clip(_enlarge(heatmaps, image), 0.0, 1.0)
    # Squares let the strongest keypoint's hue win where several overlap, without a hard seam.
    share = enlarged**2
    hue = np.tensordot(share, np.array(keypoint_colours(len(enlarged)), dtype=np.float32), axes=(0, 0))
    hue /= np.maximum(share.sum(0), 1e-12)[..., None]
    return Overlay(_blend(image, hue, enlarged.max(0)))


def tag_overlay(
    image: UInt8[np.ndarray, "H W 3"], tags: Float[Tensor, "k h w"], heatmaps: Float[Tensor, "k h w"]
) -> Overlay:
    """See `draw_tags`."""
    value, opacity = _at_likeliest(image, tags, heatmaps)
    shown = value[opacity > 0]
    low, high = np.percentile(shown, (1, 99)) if shown.size else (0.0, 1.0)
    return _coloured(image, value, opacity, (float(low), float(high)), TAG_COLOURS)


def scale_map_overlay(
    image: UInt8[np.ndarray, "H W 3"], scale_map: Float[Tensor, "k h w"], heatmaps: Float[Tensor, "k h w"]
) -> Overlay:
    """See `draw_scale_map`."""
    value, opacity = _at_likeliest(image, scale_map, heatmaps)
    reach = float(np.abs(value[opacity > 0]).max(initial=0.0))
    return _coloured(image, value, opacity, (-reach, reach), SCALE_COLOURS)


def weight_map_overlay(image: UInt8[np.ndarray, "H W 3"], weight_map: Float[Tensor, "k h w"]) -> Overlay:
    """See `draw_weight_map`."""
    values = _enlarge(weight_map, image)
    value = np.take_along_axis(values, np.abs(values).argmax(0)[None], axis=0)[0]
    reach = float(np.abs(value).max())
    return _coloured(image, value, np.full_like(value, 0.8), (-reach, reach), WEIGHT_COLOURS)


def hatch_invalid(
    image: UInt8[np.ndarray, "H W 3"], valid: Bool[Tensor, "h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Hatch the pixels of which nothing may be learned (crowds, people without labelled keypoints)."""
    height, width = image.shape[:2]
    mask = cv2.resize(valid.cpu().numpy().astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    pitch = max(4, max(height, width) // 80)
    stripes = np.add.outer(np.arange(height), np.arange(width)) // pitch % 4 == 0
    hatched = image.copy()
    hatched[(mask == 0) & stripes] = 200
    return hatched


def _at_likeliest(
    image: UInt8[np.ndarray, "H W 3"], values: Float[Tensor, "k h w"], heatmaps: Float[Tensor, "k h w"]
) -> tuple[Float32[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """Each pixel's value in the channel whose heatmap is highest there; opacity rises with the heatmap."""
    heat = _enlarge(heatmaps, image)
    likeliest = heat.argmax(0)[None]
    value = np.take_along_axis(_enlarge(values, image), likeliest, axis=0)[0]
    opacity = np.clip((heat.max(0) - _SUPPORT) / 0.2, 0.0, 1.0)
    return value, opacity.astype(np.float32)


def _enlarge(maps: Float[Tensor, "k h w"], image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "k H W"]:
    check_image(image)
    height, width = image.shape[:2]
    source = maps.detach().float().cpu().numpy()
    return np.stack(
        [cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR) for channel in source]
    )


def _coloured(
    image: UInt8[np.ndarray, "H W 3"],
    value: Float32[np.ndarray, "H W"],
    opacity: Float32[np.ndarray, "H W"],
    limits: tuple[float, float],
    colours: str,
) -> Overlay:
    low, high = limits
    if high - low < 1e-6:  # a constant map: the middle of the colour map
        low, high = low - 0.5, high + 0.5
    rgb = mpl.colormaps[colours]((value - low) / (high - low))[..., :3] * 255.0
    return Overlay(_blend(image, rgb.astype(np.float32), opacity), (low, high), colours)


def _blend(
    image: UInt8[np.ndarray, "H W 3"], rgb: Float32[np.ndarray, "H W 3"], opacity: Float32[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Colours over a dimmed, half desaturated image, so that the map's own hues are what is seen."""
    grey = image.mean(axis=2, keepdims=True)
    backdrop = _DIMMED * (0.5 * image + 0.5 * grey)
    share = opacity[..., None]
    blended: UInt8[np.ndarray, "H W 3"] = np.round(share * rgb + (1 - share) * backdrop).astype(np.uint8)
    return blended
