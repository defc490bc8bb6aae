"""The file of `swahr fit-deformation`: a `Deformation` in sides of crops, and how people were cropped."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from swahr.coco_json import require_keys
from swahr.files import read_json
from swahr.person_frame import person_frame
from swahr.second_stage.deformation import Deformation
from swahr.second_stage.proposals import Poses2d, finite_array
from swahr.second_stage.tree import spanning_tree
from swahr.skeleton import Skeleton

_FORMAT = 1
_AGAIN = "fit the deformation again"


def in_sides_of_crops(poses: Poses2d, *, crop_size: tuple[int, int], enlarge: float) -> Poses2d:
    """Return each pose in the frame of its own crop, whose width and height are 1.

    Args:
        poses: people with at least one keypoint, NaN where absent. Frame: image.
        crop_size: height and width of the crops, of which only the ratio matters for large people.
        enlarge: see `swahr.person_frame.person_frame`.
    """
    framed = np.zeros_like(poses)
    for n, pose in enumerate(poses):
        known = pose[~np.isnan(pose).any(axis=1)]
        framed[n] = person_frame(known, crop_size, enlarge=enlarge).apply(pose)
    return np.asarray(framed / crop_size[::-1])


def deformation_to_dict(
    deformation: Deformation, skeleton: Skeleton, *, crop_size: tuple[int, int], enlarge: float
) -> dict[str, Any]:
    """Plain values, for JSON; `read_deformation` reads them."""
    return {
        "format": _FORMAT,
        "keypoints": list(skeleton.keypoints),
        "parents": _parents(skeleton),
        "rest": deformation.rest.tolist(),
        "weight": deformation.weight.tolist(),
        "settings": {"crop_size": list(crop_size), "enlarge": enlarge},
    }


def read_deformation(
    path: str | Path, skeleton: Skeleton, *, crop_size: tuple[int, int], enlarge: float
) -> Deformation:
    """Read a file of `swahr fit-deformation`.

    Args:
        path: the JSON file.
        skeleton: the keypoints and limbs of the crops to come.
        crop_size: height and width of these crops.
        enlarge: factor on the boxes of these crops.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is malformed, or was fitted to other keypoints, limbs or crops.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: expected the deformation.json that swahr fit-deformation writes, but there is no such "
            "file; correct second_stage.deformation"
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            f"{path}: expected a deformation of format {_FORMAT}; use the deformation.json that swahr "
            "fit-deformation writes"
        )
    require_keys(content, ("keypoints", "parents", "rest", "weight", "settings"), str(path))
    for key, expected in (("keypoints", list(skeleton.keypoints)), ("parents", _parents(skeleton))):
        if content[key] != expected:
            raise ValueError(
                f"{path}: expected the {key} of skeleton '{skeleton.name}' ({expected}), got {content[key]}; "
                "fit a deformation to data of this skeleton"
            )
    _check_crops(content["settings"], crop_size, enlarge, str(path))
    shape = (skeleton.num_keypoints, 2)
    rest, weight = (finite_array(content[key], shape, f"{path}: {key}", _AGAIN) for key in ("rest", "weight"))
    if (weight < 0).any():
        raise ValueError(f"{path}: weight: expected numbers of at least 0, got {weight.min()}; {_AGAIN}")
    return Deformation(rest, weight)


def _parents(skeleton: Skeleton) -> list[str | None]:
    """The name of each keypoint's parent; None for the root."""
    names = skeleton.keypoints
    return [None if parent < 0 else names[parent] for parent in spanning_tree(skeleton).parents]


def _check_crops(settings: Any, crop_size: tuple[int, int], enlarge: float, path: str) -> None:
    """Raise ValueError unless people fill crops as they did in the fit."""
    values = settings if isinstance(settings, dict) else {}
    h, w = finite_array(values.get("crop_size"), (2,), f"{path}: settings: crop_size", _AGAIN)
    own = float(finite_array(values.get("enlarge"), (), f"{path}: settings: enlarge", _AGAIN))
    if h * crop_size[1] != w * crop_size[0] or not math.isclose(own, enlarge):
        raise ValueError(
            f"{path}: expected crops of {crop_size[0]} x {crop_size[1]} pixels (or of that ratio) around "
            f"boxes enlarged by {enlarge}, got {h:g} x {w:g} and {own:g}; fit the deformation with "
            f"--crop-size {crop_size[0]} {crop_size[1]} --enlarge {enlarge}"
        )
