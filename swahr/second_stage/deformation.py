"""The best joint configuration of a person's keypoints: score maps, and a cost of deformation along the tree.

Chu et al., Structured Feature Learning for Pose Estimation, CVPR 2016; Felzenszwalb & Huttenlocher, Distance
Transforms of Sampled Functions, 2012. See docs/structured_features.md.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from swahr.second_stage.tree import KeypointTree

_SMALLEST_DEVIATION = 1 / 256  # of offsets, in sides of the crop; a pixel of a large crop


@dataclass(frozen=True, eq=False)
class Deformation:
    """The cost weight (x_k - x_parent - rest)^2, for x and y, of each keypoint k; all 0 for the root.

    Attributes:
        rest: offsets (x, y) from the parent that cost nothing.
        weight: weights of squared differences from them.
    """

    rest: Float64[np.ndarray, "k 2"]
    weight: Float64[np.ndarray, "k 2"]

    def on_map(self, size: tuple[int, int]) -> "Deformation":
        """The same in pixels of the crop's map of ``size`` (h, w), if this is in sides of the crop."""
        sides = np.array(size[::-1], dtype=np.float64)
        return Deformation(self.rest * sides, self.weight / sides**2)


def estimate_deformation(
    keypoints: Float64[np.ndarray, "n k 2"], present: Bool[np.ndarray, "n k"], tree: KeypointTree
) -> Deformation:
    """Estimate the mean offset of each keypoint from its parent, and as weights 1 / (2 variance).

    The cost is then that of the negative logarithm of a Gaussian, as score maps may be log-probabilities. A
    limb that fewer than two people have gets the weight 0.

    Args:
        keypoints: annotated people, in sides of their crops.
        present: which keypoints are labelled.
        tree: `swahr.second_stage.spanning_tree` of their skeleton.
    """
    rest, weight = np.zeros((2, len(tree.parents), 2))
    for child in tree.order[1:]:
        parent = tree.parents[child]
        both = present[:, child] & present[:, parent]
        if both.sum() >= 2:
            offsets = keypoints[both, child] - keypoints[both, parent]
            rest[child] = offsets.mean(axis=0)
            weight[child] = 1 / (2 * np.maximum(offsets.var(axis=0), _SMALLEST_DEVIATION**2))
    return Deformation(rest, weight)


def max_sum(
    scores: Float[np.ndarray, "k h w"], tree: KeypointTree, deformation: Deformation
) -> Int64[np.ndarray, "k 2"]:
    """Return the pixels (x, y) of all keypoints with the largest sum of scores minus the cost of deformation.

    Exact, by dynamic programming from the leaves to the root, with a distance transform for each limb.

    Args:
        scores: score maps of one person's crop.
        tree: of the skeleton.
        deformation: in pixels of the maps (`Deformation.on_map`).

    Raises:
        ValueError: a number is not finite, or a weight is negative.
    """
    if not all(map(np.isfinite, (scores.sum(), deformation.rest.sum(), deformation.weight.sum()))):
        raise ValueError(
            "max_sum: expected finite scores, rest offsets and weights; correct those that are not"
        )
    if (deformation.weight < 0).any():
        raise ValueError(f"max_sum: expected weights of at least 0, got {deformation.weight.min()}")
    beliefs, origins = scores.astype(np.float64), {}
    for child in reversed(tree.order[1:]):
        message, origins[child] = _message(beliefs[child], deformation.rest[child], deformation.weight[child])
        beliefs[tree.parents[child]] += message
    root, (h, w) = tree.order[0], scores.shape[1:]
    pixels = np.zeros((len(scores), 2), dtype=np.int64)
    pixels[root] = np.unravel_index(beliefs[root].argmax(), (h, w))[::-1]
    for child in tree.order[1:]:
        x, y = pixels[tree.parents[child]]
        pixels[child] = origins[child][y, x]
    return pixels


def _message(
    belief: Float64[np.ndarray, "h w"], rest: Float64[np.ndarray, " 2"], weight: Float64[np.ndarray, " 2"]
) -> tuple[Float64[np.ndarray, "h w"], Int64[np.ndarray, "h w 2"]]:
    """Return the child's best value for each pixel of the parent, and the child's pixel (x, y)."""
    from swahr.kernels.envelope import transform  # takes a second to import

    best, x = transform(belief, float(rest[0]), float(weight[0]))  # of each row y of the child
    best, y = transform(np.ascontiguousarray(best.T), float(rest[1]), float(weight[1]))  # of each column
    return best.T, np.stack([x[y.T, np.arange(belief.shape[1])], y.T], axis=2)
