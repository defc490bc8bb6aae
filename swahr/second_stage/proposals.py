"""Pose-guided proposals (Fang et al., RMPE, ICCV 2017, section 3.4): boxes as a detector would find them.

Given the atomic pose nearest to a pose P, the offset dB between detected and true box is distributed as
P(dB | atom(P)): poses are aligned to one torso length and clustered, the centres of the clusters are the
atomic poses, and the offsets of each atom follow a mixture of Gaussians. Boxes are (x0, y0, x1, y1) around a
pose's known keypoints; offsets are divided by the true box's side in their direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from swahr.coco_json import require_keys
from swahr.files import read_json
from swahr.keypoint_names import words_of
from swahr.skeleton import Skeleton

Poses2d = Float64[np.ndarray, "n k 2"]
"""Keypoints of people, NaN where absent. Frame: image, or that of atoms."""
Boxes = Float64[np.ndarray, "n 4"]

_FORMAT = 1
_TORSO_ENDS = (("shoulder", "neck", "thorax", "chest"), ("hip", "pelvis"))  # the first that the skeleton has
SHORTEST_TORSO = 0.15  # of the box's longer side; a torso seen from above or below says little about size
_SMALLEST = 0.1  # ratio of a sampled side to the true one
_ATTEMPTS = 10
_AGAIN = "fit the proposals again"


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of ``c`` Gaussians over the four offsets; ``pairs`` is how many it was fitted to."""

    pairs: int
    weights: Float64[np.ndarray, " c"]
    means: Float64[np.ndarray, "c 4"]
    covariances: Float64[np.ndarray, "c 4 4"]


@dataclass(frozen=True, eq=False)
class ProposalBoxes:
    """Samples boxes like those of detected poses, for training crops; `fit_proposals` makes it.

    Attributes:
        keypoints: names, in the order of poses.
        torso: the typical torso length as a fraction of the box's longer side, for poses without a torso.
        filling: the mean aligned pose, whose keypoints stand for absent ones.
        atoms: the atomic poses, in torso lengths, the origin in the middle of the torso.
        mixtures: the offsets of each atom.
    """

    keypoints: tuple[str, ...]
    torso: float
    filling: Float64[np.ndarray, "k 2"]
    atoms: Float64[np.ndarray, "a k 2"]
    mixtures: tuple[Mixture, ...]

    def atoms_of(self, poses: Poses2d) -> Int64[np.ndarray, " n"]:
        """The nearest atom of each pose."""
        if poses.shape[1] != len(self.keypoints):
            raise ValueError(
                f"expected poses with the {len(self.keypoints)} keypoints {list(self.keypoints)}, got "
                f"{poses.shape[1]}; use proposals that were fitted to this skeleton"
            )
        aligned = filled_poses(aligned_poses(poses, self.keypoints, self.torso), self.filling)
        distances = np.square(aligned[:, None] - self.atoms).sum(axis=(2, 3))
        return np.asarray(distances.argmin(axis=1))

    def sample(
        self,
        pose: Float64[np.ndarray, "k 2"],
        box: Float64[np.ndarray, " 4"],
        rng: np.random.Generator,
    ) -> Float64[np.ndarray, " 4"]:
        """A box (x0, y0, x1, y1) as it may be detected.

        Args:
            pose: of an annotated person, NaN where a keypoint is absent.
            box: of the person's keypoints.
            rng: the source of randomness.
        """
        mixture = self.mixtures[int(self.atoms_of(pose[None])[0])]
        sides = np.tile(box[2:] - box[:2], 2)
        for _ in range(_ATTEMPTS):
            one = rng.choice(len(mixture.weights), p=mixture.weights)
            offset = rng.multivariate_normal(mixture.means[one], mixture.covariances[one], method="cholesky")
            sampled = np.asarray(box + sides * offset, dtype=np.float64)
            if (sampled[2:] - sampled[:2] >= _SMALLEST * sides[:2]).all():
                return sampled
        return box  # the mixture hardly has any box that is not turned inside out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_json` reads them."""
        atoms = [
            {
                "pose": pose.tolist(),
                "pairs": mixture.pairs,
                **{name: getattr(mixture, name).tolist() for name in ("weights", "means", "covariances")},
            }
            for pose, mixture in zip(self.atoms, self.mixtures, strict=True)
        ]
        plain = {"torso": self.torso, "filling": self.filling.tolist(), "atoms": atoms}
        return {"format": _FORMAT, "keypoints": list(self.keypoints), **plain}

    @classmethod
    def from_json(cls, path: str | Path, skeleton: Skeleton | None = None) -> ProposalBoxes:
        """Read a file of `swahr fit-proposals`.

        Args:
            path: the JSON file.
            skeleton: the keypoints of the poses to come; None for no check.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it is malformed, or was fitted to other keypoints.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(
                f"{path}: expected proposals of format {_FORMAT}; use the proposals.json that swahr "
                "fit-proposals writes"
            )
        require_keys(content, ("keypoints", "torso", "filling", "atoms"), str(path))
        names, atoms = content["keypoints"], content["atoms"]
        if not (_are(names, str) and _are(atoms, dict)):
            raise ValueError(
                f"{path}: expected lists of names as 'keypoints' and of objects as 'atoms', none of them "
                f"empty; {_AGAIN}"
            )
        if skeleton is not None and tuple(names) != skeleton.keypoints:
            raise ValueError(
                f"{path}: expected the keypoints of skeleton '{skeleton.name}' ({list(skeleton.keypoints)}), "
                f"got {names}; fit proposals to data of this skeleton"
            )
        k = len(names)
        return cls(
            keypoints=tuple(names),
            torso=float(finite_array(content["torso"], (), f"{path}: torso")),
            filling=finite_array(content["filling"], (k, 2), f"{path}: filling"),
            atoms=np.stack(
                [
                    finite_array(one.get("pose"), (k, 2), f"{path}: atoms[{i}].pose")
                    for i, one in enumerate(atoms)
                ]
            ),
            mixtures=tuple(_mixture(one, f"{path}: atoms[{i}]") for i, one in enumerate(atoms)),
        )


class FittedProposals:
    """The proposals in a file of `swahr fit-proposals`: `ProposalBoxes` for configurations.

    Args:
        path: the JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is malformed.
    """

    def __init__(self, path: str) -> None:
        self.boxes = ProposalBoxes.from_json(path)
        self.keypoints, self.sample = self.boxes.keypoints, self.boxes.sample


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(one, kind) for one in values)


def finite_array(value: Any, shape: tuple[int, ...], where: str, advice: str = _AGAIN) -> np.ndarray:
    """Finite numbers of a shape; else ValueError, from ``where`` to ``advice``."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers of shape {shape}; {advice}")
    return array


def _mixture(entry: Mapping[str, Any], where: str) -> Mixture:
    require_keys(entry, ("pairs", "weights", "means", "covariances"), where)
    count = len(entry["weights"]) if isinstance(entry["weights"], list) else 0
    shapes = {"weights": (count,), "means": (count, 4), "covariances": (count, 4, 4)}
    arrays = {name: finite_array(entry[name], shape, f"{where}.{name}") for name, shape in shapes.items()}
    weights, covariances = arrays["weights"], arrays["covariances"]
    is_distribution = count and (weights >= 0).all() and abs(weights.sum() - 1) < 1e-6
    if not is_distribution or not _are_covariances(covariances):
        raise ValueError(
            f"{where}: expected weights that sum to 1 and positive definite covariances; {_AGAIN}"
        )
    return Mixture(int(entry["pairs"]), **{**arrays, "weights": weights / weights.sum()})


def _are_covariances(matrices: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        return False
    return np.allclose(matrices, np.swapaxes(matrices, 1, 2), rtol=1e-9, atol=1e-12)


def boxes_of(poses: Poses2d) -> Boxes:
    """The bounding box of each pose's known keypoints; infinite, from +inf to -inf, without any."""
    known = ~np.isnan(poses)
    low, high = np.where(known, poses, np.inf).min(axis=1), np.where(known, poses, -np.inf).max(axis=1)
    return np.concatenate([low, high], axis=1)


def torsos(poses: Poses2d, keypoints: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The middle (n 2) and the length (n) of each torso; NaN where one of its ends is absent."""
    ends = []
    for options in _TORSO_ENDS:
        groups = [[i for i, name in enumerate(keypoints) if word in words_of(name)] for word in options]
        points = poses[:, next(filter(None, groups), [])]
        known = ~np.isnan(points)
        count = known.sum(axis=1)
        total = np.where(known, points, 0.0).sum(axis=1)
        ends.append(np.where(count > 0, total / count.clip(min=1), np.nan))
    upper, lower = ends
    return (upper + lower) / 2, np.linalg.norm(upper - lower, axis=1)


def aligned_poses(poses: Poses2d, keypoints: Sequence[str], torso: float) -> Poses2d:
    """Poses in torso lengths, the origin in the middle of the torso.

    Where the torso is not known, or hardly any of its length is seen, the box stands for it.
    """
    box, (middle, length) = boxes_of(poses), torsos(poses, keypoints)
    empty = ~np.isfinite(box).all(axis=1)
    box = np.where(empty[:, None], 0.0, box)
    longer = (box[:, 2:] - box[:, :2]).max(axis=1)
    known = length > SHORTEST_TORSO * longer  # False for NaN
    middle = np.where(known[:, None], middle, (box[:, 2:] + box[:, :2]) / 2)
    length = np.where(known, length, torso * longer)
    return np.asarray((poses - middle[:, None]) / np.where(length > 0, length, 1.0)[:, None, None])


def filled_poses(aligned: Poses2d, filling: Float64[np.ndarray, "k 2"]) -> Poses2d:
    """Aligned poses whose absent keypoints are those of ``filling``."""
    return np.where(np.isnan(aligned), filling, aligned)
