"""Fits the distribution of `swahr.second_stage.proposals` to pairs of annotated and detected poses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from swahr.second_stage.proposals import (
    SHORTEST_TORSO,
    Boxes,
    Mixture,
    Poses2d,
    ProposalBoxes,
    aligned_poses,
    boxes_of,
    filled_poses,
    torsos,
)
from swahr.skeleton import Skeleton

_FEWEST_KEYPOINTS = 3
_NARROWEST = 0.1  # ratio of a box's sides; offsets in narrower boxes are arbitrarily large
_PAIRS_PER_ATOM, _PAIRS_PER_GAUSSIAN = 10, 30  # at least
_SMALLEST_VARIANCE = 0.005**2  # added to each, in squared sides; else Gaussians shrink to a few pairs


def fit_proposals(
    true: Poses2d, found: Poses2d, skeleton: Skeleton, *, atoms: int = 8, components: int = 3, seed: int = 0
) -> ProposalBoxes:
    """Atomic poses, and the mixtures of their offsets, from annotated people and their detections.

    Pairs are left out if one of the poses has fewer than three keypoints, or if the true box is more than ten
    times as long as wide. There is at most one Gaussian per thirty pairs of an atom. An atom with fewer than
    ten pairs is left out, and its pairs belong to the nearest other one.

    Args:
        true: annotated poses.
        found: the detection of each.
        skeleton: the keypoints of both.
        atoms: the number of atomic poses, at most.
        components: Gaussians per atom, at most.
        seed: of k-means and of the mixtures' starting points.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: there are too few pairs, or poses have other keypoints.
    """
    if not true.shape == found.shape == (len(true), skeleton.num_keypoints, 2):
        raise ValueError(
            f"expected as many detected as annotated poses, with the {skeleton.num_keypoints} keypoints of "
            f"skeleton '{skeleton.name}', got shapes {true.shape} and {found.shape}"
        )
    if atoms < 1 or components < 1:
        raise ValueError(f"expected at least one atom and component, got {atoms} and {components}")
    usable = _are_usable(true, found)
    true, found, count = true[usable], found[usable], int(usable.sum())
    if count < _PAIRS_PER_ATOM * atoms:
        raise ValueError(
            f"expected at least {_PAIRS_PER_ATOM * atoms} pairs for {atoms} atoms, got {count} of "
            f"{len(usable)} pairs that are usable; use results on more images, or fewer atoms"
        )
    torso = _typical_torso(true, skeleton.keypoints)
    aligned = aligned_poses(true, skeleton.keypoints, torso)
    known = ~np.isnan(aligned)
    filling = np.where(known, aligned, 0.0).sum(axis=0) / known.sum(axis=0).clip(min=1)
    labels, centres = _clusters(filled_poses(aligned, filling), atoms, seed)
    offsets = box_offsets(boxes_of(true), boxes_of(found))
    mixtures = [_fitted(offsets[labels == atom], components, seed) for atom in range(len(centres))]
    return ProposalBoxes(skeleton.keypoints, torso, filling, centres, tuple(mixtures))


def box_offsets(true: Boxes, found: Boxes) -> Boxes:
    """Offsets of detected boxes, divided by the true box's side in their direction."""
    return np.asarray((found - true) / np.tile(true[:, 2:] - true[:, :2], 2))


def _are_usable(true: Poses2d, found: Poses2d) -> Bool[np.ndarray, " n"]:
    counts = [(~np.isnan(poses[..., 0])).sum(axis=1) for poses in (true, found)]
    usable = np.minimum(*counts) >= _FEWEST_KEYPOINTS
    box = boxes_of(true)
    sides = np.where(usable[:, None], box[:, 2:] - box[:, :2], 0.0)
    return np.asarray(usable & (sides.min(axis=1) > _NARROWEST * sides.max(axis=1)))


def _typical_torso(poses: Poses2d, keypoints: Sequence[str]) -> float:
    """The median torso length as a fraction of the box's longer side; 1 if no torso is known."""
    box, (_, length) = boxes_of(poses), torsos(poses, keypoints)
    ratios = length / (box[:, 2:] - box[:, :2]).max(axis=1)
    ratios = ratios[ratios > SHORTEST_TORSO]
    return float(np.median(ratios)) if len(ratios) else 1.0


def _clusters(
    aligned: Poses2d, atoms: int, seed: int
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "a k 2"]]:
    """The atom of each pose, and the atoms; outliers join the nearest one."""
    k_means, _, threadpool_limits = _scikit_learn()
    vectors = aligned.reshape(len(aligned), -1)
    if (distinct := len(np.unique(vectors, axis=0))) < atoms:
        raise ValueError(f"expected at least {atoms} distinct poses, got {distinct}; use fewer atoms")
    with threadpool_limits(1):  # sums are the same every time
        clusters = k_means(n_clusters=atoms, n_init=10, random_state=seed).fit(vectors)
    counts = np.bincount(clusters.labels_, minlength=atoms)
    order = np.argsort(-counts, kind="stable")
    centres = clusters.cluster_centers_[order[counts[order] >= _PAIRS_PER_ATOM]]
    labels = np.square(vectors[:, None] - centres).sum(axis=2).argmin(axis=1)
    return labels, centres.reshape(len(centres), *aligned.shape[1:])


def _fitted(offsets: Boxes, components: int, seed: int) -> Mixture:
    count = max(1, min(components, len(offsets) // _PAIRS_PER_GAUSSIAN))
    options = {"n_init": 3, "max_iter": 1000, "reg_covar": _SMALLEST_VARIANCE, "random_state": seed}
    mixture = _scikit_learn()[1](count, **options).fit(offsets)
    order = np.argsort(-mixture.weights_, kind="stable")
    return Mixture(
        pairs=len(offsets),
        weights=mixture.weights_[order] / mixture.weights_.sum(),
        means=mixture.means_[order],
        covariances=mixture.covariances_[order],
    )


def _scikit_learn() -> tuple[Any, Any, Any]:
    """The classes KMeans and GaussianMixture, and the context manager that limits their threads."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(
            f"fitting proposals needs scikit-learn, which cannot be imported ({error}); install it with pip "
            "install 'swahr[second-stage]'"
        ) from error
    return KMeans, GaussianMixture, threadpool_limits
