"""CPU kernel of `swahr.second_stage.max_sum`: the generalised distance transform of each row of an array.

The upper envelope of parabolas (Felzenszwalb & Huttenlocher, Distance Transforms of Sampled Functions, 2012).
"""

import numpy as np
from jaxtyping import Float64, Int64

from swahr.kernels.compiled import compiled

Rows = Float64[np.ndarray, "n s"]


def transform(values: Rows, rest: float, weight: float) -> tuple[Rows, Int64[np.ndarray, "n s"]]:
    """Return max_c values[c] - weight (c - q - rest)^2 for every q of each row, and the c of the maximum."""
    best, origin = np.empty_like(values), np.empty(values.shape, dtype=np.int64)
    _transform(values, rest, weight, best, origin)
    return best, origin


@compiled()
def _transform(
    values: Rows, rest: float, weight: float, best: Rows, origin: Int64[np.ndarray, "n s"]
) -> None:
    side = values.shape[1]
    top, start = (
        np.empty(side, dtype=np.int64),
        np.empty(side),
    )  # the envelope's parabolas, and where they begin
    for row in range(len(values)):
        height = values[row]
        if weight == 0:
            origin[row] = np.argmax(height)
            best[row] = np.max(height)
            continue
        count = 0
        for c in range(side):
            begin = -np.inf
            while count:
                # From `begin` on, the parabola of c is higher than the last one so far.
                last = top[count - 1]
                begin = (c + last) / 2 + (height[last] - height[c]) / (2 * weight * (c - last))
                if begin > start[count - 1]:
                    break
                count -= 1
                begin = -np.inf
            top[count], start[count] = c, begin
            count += 1
        place = 0
        for q in range(side):
            while place + 1 < count and start[place + 1] <= q + rest:
                place += 1
            c = top[place]
            origin[row, q] = c
            best[row, q] = height[c] - weight * (c - q - rest) ** 2
