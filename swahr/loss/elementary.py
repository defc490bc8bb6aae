"""Logarithm and exponential that compiled loops can take of several pixels at a time, unlike a library's.

Cephes' polynomials for float32 (S. L. Moshier, `logf` and `expf`), without branches.
"""

from __future__ import annotations

import numpy as np

from swahr.compiled import compiled


@compiled()
def log(x: np.float32) -> np.float32:
    """Natural logarithm to 1 unit in the last place, for positive, finite, normal x; 0 at 1."""
    one, half = np.float32(1), np.float32(0.5)
    bits = np.int32(np.float32(x).view(np.int32) - np.int32(0x3F3504F3))  # of sqrt(1/2)
    exponent = np.float32(np.int32(bits >> np.int32(23)))
    m = np.int32((bits & np.int32(0x7FFFFF)) + np.int32(0x3F3504F3)).view(np.float32) - one
    p = np.float32(7.0376836292e-2)
    p = p * m - np.float32(1.1514610310e-1)
    p = p * m + np.float32(1.1676998740e-1)
    p = p * m - np.float32(1.2420140846e-1)
    p = p * m + np.float32(1.4249322787e-1)
    p = p * m - np.float32(1.6668057665e-1)
    p = p * m + np.float32(2.0000714765e-1)
    p = p * m - np.float32(2.4999993993e-1)
    p = p * m + np.float32(3.3333331174e-1)
    # ln 2 in two parts, of which the first has few bits: its multiples are not rounded.
    small = m * (m * m) * p - exponent * np.float32(2.12194440e-4) - half * (m * m)
    return m + small + exponent * np.float32(0.693359375)


@compiled()
def exp(x: np.float32) -> np.float32:
    """e^x to 1 unit in the last place, for x from -87 to 88, to which others are moved; NaN stays."""
    low, high = np.float32(-87), np.float32(88)
    x = low if x < low else x
    x = high if x > high else x
    n: np.float32 = np.rint(x * np.float32(1.44269504088896341))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power: np.float32 = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * (r * r) + r + np.float32(1)) * power
