"""Maps over images: heatmaps, tags, scale maps and any other, each enlarged to the image it belongs to.

All maps are ``(k, h, w)`` tensors that cover the whole image (frame: map of any stride); enlarging is then a
pure scaling, see `swahr.geometry`.
"""

from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from swahr.draw.palette import Picture, keypoint_colours
from swahr.images import check_image
from swahr.map_kinds import map_kind

_DIMMED = 0.45  # how much of the image's brightness stays under a map
_WITHOUT_KEYPOINTS = 0.8  # opacity of a map that is painted everywhere
_SUPPORT = 0.1  # heatmap value from which a pixel is taken to belong to a keypoint


@dataclass(frozen=True, eq=False)
class Overlay:
    """A map drawn over an image, and the values its colours stand for (None when colours name keypoints)."""

    image: Picture
    limits: tuple[float, float] | None = None
    colours: str | None = None


def draw_map(
    image: Picture, name: str, maps: Float[Tensor, "c h w"], heatmaps: Float[Tensor, "k h w"]
) -> Picture:
    """Draw a map over an image, in the way of its kind (`swahr.map_kinds`).

    Heatmaps: hue tells the keypoint, opacity the value. Tags and scale maps: the value of the likeliest
    keypoint, where there is one. Weight maps: everywhere, of the keypoint that departs most from 0.

    Args:
        image: RGB, ``(H, W, 3)``; the maps cover it exactly.
        name: of the map.
        maps: its channels.
        heatmaps: show where there are keypoints.
    """
    return map_overlay(image, name, maps, heatmaps).image


def map_overlay(
    image: Picture, name: str, maps: Float[Tensor, "c h w"], heatmaps: Float[Tensor, "k h w"]
) -> Overlay:
    """See `draw_map`. Where channels are not keypoints, the one that departs most from 0 counts."""
    kind = map_kind(name)
    if kind.colours is None:
        return heatmap_overlay(image, maps)
    values, heat = _enlarge(maps, image), _enlarge(heatmaps, image)
    by_heat = kind.at_keypoints and len(values) == len(heat)
    channel = (heat if by_heat else np.abs(values)).argmax(0)
    value = np.take_along_axis(values, channel[None], axis=0)[0]
    seen = np.clip((heat.max(0) - _SUPPORT) / 0.2, 0.0, 1.0)
    opacity = seen if kind.at_keypoints else np.full_like(value, _WITHOUT_KEYPOINTS)
    shown = value[opacity > 0]
    low, high = np.percentile(shown, (1, 99)).tolist() if shown.size else (0.0, 0.0)
    if kind.symmetric:
        high = float(np.abs(shown).max(initial=0.0))
        low = -high
    if high - low < 1e-6:  # a constant map: the middle of the colour map
        low, high = low - 0.5, high + 0.5
    rgb = mpl.colormaps[kind.colours]((value - low) / (high - low))[..., :3] * 255.0
    return Overlay(_blend(image, rgb.astype(np.float32), opacity), (low, high), kind.colours)


def heatmap_overlay(image: Picture, heatmaps: Float[Tensor, "k h w"]) -> Overlay:
    """Hue tells the keypoint, opacity is the largest value (clipped to 0..1)."""
    enlarged = np.clip(_enlarge(heatmaps, image), 0.0, 1.0)
    # Squares let the strongest keypoint's hue win where several overlap, without a hard seam.
    share = enlarged**2
    hue = np.tensordot(share, np.array(keypoint_colours(len(enlarged)), dtype=np.float32), axes=(0, 0))
    hue /= np.maximum(share.sum(0), 1e-12)[..., None]
    return Overlay(_blend(image, hue, enlarged.max(0)))


def hatch_invalid(image: Picture, valid: Bool[Tensor, "h w"]) -> Picture:
    """Hatch the pixels of which nothing may be learned (crowds, people without labelled keypoints)."""
    height, width = image.shape[:2]
    mask = cv2.resize(valid.cpu().numpy().astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    pitch = max(4, max(height, width) // 80)
    stripes = np.add.outer(np.arange(height), np.arange(width)) // pitch % 4 == 0
    return np.where(((mask == 0) & stripes)[..., None], np.uint8(200), image)


def _enlarge(maps: Float[Tensor, "k h w"], image: Picture) -> Float32[np.ndarray, "k H W"]:
    check_image(image)
    source = maps.detach().float().cpu().numpy()
    return np.stack([cv2.resize(channel, image.shape[1::-1]) for channel in source])  # bilinear


def _blend(image: Picture, rgb: Float32[np.ndarray, "H W 3"], opacity: Float32[np.ndarray, "H W"]) -> Picture:
    """Colours over a dimmed, half desaturated image, so that the map's own hues are what is seen."""
    backdrop = _DIMMED * (0.5 * image + 0.5 * image.mean(axis=2, keepdims=True))
    return np.asarray(np.round(backdrop + opacity[..., None] * (rgb - backdrop)), dtype=np.uint8)
