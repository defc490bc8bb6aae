"""Crowds as they were photographed: poses, sizes and places of people from a COCO-format keypoint file."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swahr.data.synthetic.body import INDEX, Bodies
from swahr.data.synthetic.lifting import can_lift, lift
from swahr.geometry import POINT_FROM_INDEX, fit_rectangle

Person = dict[str, npt.NDArray[np.float64]]


class LayoutCrowd:
    """The people of a random image of a keypoint file, scaled to fit into the picture.

    Used are all people with at least four labelled keypoints, among them a shoulder or a hip; whatever else
    their bodies need is filled in, so that rendered people have *more* keypoints than the annotated ones, and
    the visibility of all is that of the drawing. Taller people are taken to be nearer.

    Args:
        layouts: a COCO-format file with keypoint names in its category, ``.json`` or ``.json.gz``.
        people: fewest and most usable people of the images to use.

    Raises:
        ValueError: the file is not a keypoint file, names keypoints that no body has, or no image has so many
            people.
    """

    def __init__(self, layouts: str | Path, people: tuple[int, int]) -> None:
        content = _read(Path(layouts))
        names = _keypoint_names(content, layouts)
        persons: dict[int, list[Person]] = defaultdict(list)
        for annotation in content["annotations"]:
            person = _labelled(annotation, names)
            if not annotation.get("iscrowd") and can_lift(person):
                persons[annotation["image_id"]].append(person)
        self._images = [
            ((int(image["height"]), int(image["width"])), persons[image["id"]])
            for image in content["images"]
            if max(people[0], 1) <= len(persons[image["id"]]) <= people[1]
        ]
        if not self._images:
            raise ValueError(
                f"{layouts}: none of its {len(content['images'])} images has {people[0]} to {people[1]} "
                f"people with enough keypoints; widen 'people'"
            )

    def __call__(self, rng: np.random.Generator, size: tuple[int, int]) -> Bodies:
        """A photographed crowd in an image of ``size`` (h, w), from far to near. Frame: image."""
        source_size, persons = self._images[int(rng.integers(len(self._images)))]
        points, heads, statures = (np.stack(part) for part in zip(*map(lift, persons), strict=True))
        placing = fit_rectangle(source_size, size)
        points[..., :2] = placing.apply(points[..., :2])
        points[..., 2] *= placing.length_ratio
        order = np.argsort(statures, kind="stable")
        girth = rng.uniform(0.85, 1.2, len(order))
        stature = np.asarray(statures[order] * placing.length_ratio, dtype=np.float64)
        return Bodies(points[order], heads[order], stature, girth, np.ones(len(order)))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no layouts at {path}; give a COCO-format keypoint file (.json or .json.gz)")
    raw = path.read_bytes()
    try:
        content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: expected COCO-format JSON: {error}") from error
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise ValueError(f"{path}: expected a COCO-format keypoint file, but {missing} are missing")
    return dict(content)


def _keypoint_names(content: dict[str, Any], path: str | Path) -> list[str]:
    names = next((c["keypoints"] for c in content["categories"] if c.get("keypoints")), None)
    if names is None:
        raise ValueError(f"{path}: no category names its keypoints; layouts need them")
    if unknown := [name for name in names if name not in INDEX]:
        raise ValueError(f"{path}: bodies have no keypoints {unknown}; known are {list(INDEX)}")
    return list(names)


def _labelled(annotation: dict[str, Any], names: list[str]) -> Person:
    triples = np.asarray(annotation.get("keypoints", ()), dtype=np.float64).reshape(-1, 3)
    places = POINT_FROM_INDEX.apply(triples[:, :2])
    return {name: place for name, place, (_, _, v) in zip(names, places, triples, strict=False) if v > 0}
