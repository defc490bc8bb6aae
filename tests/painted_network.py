"""People painted as dots of colour, and a network that finds them by colour."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from swahr.build import TEST_TIME_GROUPS
from swahr.checkpoint import describe_run, save_checkpoint
from swahr.cli.command import compose_config
from swahr.skeleton import COCO
from swahr.structures import Maps

_DOT = 2  # half the side of a dot
_SIGMA = 2.0  # in pixels of the finest map


class PaintedNetwork(nn.Module):
    """Reads keypoint (red), tag (green) and height of the peak (blue) of each dot."""

    strides, size_multiple = (4, 2), 4
    calls = 0
    calls_left = 10**9

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> tuple[Maps, Maps]:
        if not PaintedNetwork.calls_left:
            raise KeyboardInterrupt
        PaintedNetwork.calls += 1
        PaintedNetwork.calls_left -= 1
        red, green, blue = images.float().unbind(1)
        own = (red[:, None] - _red(torch.arange(17))[None, :, None, None]).abs() < 4
        heat = F.avg_pool2d(own * blue[:, None] / 255 * self.gain, 2)
        gaussian = torch.exp(-(torch.arange(-6, 7) ** 2) / (2 * _SIGMA**2)) / _DOT
        columns, rows = (gaussian.view(1, 1, *shape).expand(17, 1, *shape) for shape in ((13, 1), (1, 13)))
        fine = F.conv2d(heat, columns, padding=(6, 0), groups=17)
        fine = F.conv2d(fine, rows, padding=(0, 6), groups=17)
        tags = F.max_pool2d(own * green[:, None] / 20, 13, stride=4, padding=6)
        coarse = Maps(4, {"heatmaps": F.avg_pool2d(fine, 2), "tags": tags})
        return coarse, Maps(2, {"heatmaps": fine, "scale_maps": 0.2 * fine})


def write_checkpoint(path: Path, gain: float = 1.0) -> Path:
    """A checkpoint of the network, which must be loaded with ``trust=[painted_network]``."""
    config: Any = OmegaConf.to_container(compose_config("train", ["aggregate.input_size=128"]))
    groups = {name: config[name] for name in ("targets", *TEST_TIME_GROUPS, "evaluation", "data")}
    groups["model"] = {"_target_": "painted_network.PaintedNetwork"}
    facts = {"strides": [4, 2], "size_multiple": 4}
    save_checkpoint(path, {"gain": torch.tensor([gain])}, describe_run(groups, facts, COCO, {}))
    return path


def write_painted(folder: Path, name: str, *, count: int, seed: int) -> Path:
    """Images of two sizes and their annotations ``<name>.json``; dots are near the annotated keypoints."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for image_id in range(1, count + 1):
        width = 192 if image_id % 3 == 0 else 128
        pixels = np.zeros((128, width, 3), dtype=np.uint8)
        for person in range(3):
            side = rng.uniform(40, 70)
            corner = rng.uniform(4, np.array([width, 128]) - side - 4)
            keypoints = corner + side * rng.random((17, 2))
            _paint(
                pixels, keypoints + rng.normal(0, 0.03 * side, (17, 2)), rng.uniform(0.05, 1.0, 17), person
            )
            people.append(_annotation(keypoints, side, len(people) + 1, image_id))
        file = f"{name}_{image_id}.png"
        assert cv2.imwrite(str(folder / "images" / file), pixels[..., ::-1])
        size = {"height": 128, "width": width, "crowdIndex": 0.3 * (image_id % 4)}
        images.append({"id": image_id, "file_name": file, **size})
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    content = {"images": images, "annotations": people, "categories": [category]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def _red(keypoint: Any) -> Any:
    return 8 * keypoint + 8


def _paint(pixels: np.ndarray, points: np.ndarray, heights: np.ndarray, person: int) -> None:
    for keypoint, ((x, y), height) in enumerate(zip(points.round().astype(int), heights, strict=True)):
        top, left = max(y - _DOT, 0), max(x - _DOT, 0)
        colour = (_red(keypoint), 40 * person + 20, round(255 * height))
        pixels[top : max(y, 0) + _DOT, left : max(x, 0) + _DOT] = colour


def _annotation(keypoints: np.ndarray, side: float, identity: int, image_id: int) -> dict[str, Any]:
    return {
        "id": identity, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
        "area": side**2, "bbox": [*keypoints.min(axis=0), *np.ptp(keypoints, axis=0)],
        "keypoints": [value for x, y in keypoints for value in (x, y, 2)],
    }  # fmt: skip
