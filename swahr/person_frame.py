"""The frame of one person: the crop of an image around their keypoints."""

import numpy as np
from jaxtyping import Float64

from swahr.geometry import Affine


def person_frame(
    keypoints: Float64[np.ndarray, "k 2"], size: tuple[int, int], *, enlarge: float, smallest: float = 32.0
) -> Affine:
    """The affine map from an image to a crop of ``size`` (h, w) around a person's keypoints.

    Their bounding box is enlarged by the factor ``enlarge`` about its centre, to sides of ``smallest`` pixels
    at least, and then extended to the aspect ratio of the crop; lengths are not distorted.
    """
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    w, h = np.maximum((high - low) * enlarge, smallest)
    x, y = -(low + high) / 2
    scaled = Affine.scaling(float(min(size[0] / h, size[1] / w))) @ Affine.translation(float(x), float(y))
    return Affine.translation(size[1] / 2, size[0] / 2) @ scaled
