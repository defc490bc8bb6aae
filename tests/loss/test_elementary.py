"""The polynomials equal the functions to one unit in the last place."""

import math

import numpy as np
import pytest
from numba import njit

from swahr.loss.fused import _exp as exp
from swahr.loss.fused import _log as log


@njit  # not kept on disk: a change of the functions would not be noticed
def _logs(x: np.ndarray, result: np.ndarray) -> None:
    for i in range(len(x)):
        result[i] = log(x[i])


@njit  # not kept on disk: a change of the functions would not be noticed
def _exps(x: np.ndarray, result: np.ndarray) -> None:
    for i in range(len(x)):
        result[i] = exp(x[i])


def units_off(compute, x: np.ndarray, exact: np.ndarray) -> float:
    result = np.empty_like(x)
    compute(x, result)
    return float((np.abs(result - exact) / np.spacing(np.abs(exact).astype(np.float32))).max())


def test_logarithm() -> None:
    """Of every 61st number from the smallest normal one to 4."""
    x = np.arange(0x00800000, 0x40800000, 61, dtype=np.int32).view(np.float32)
    assert units_off(_logs, x, np.log(x.astype(np.float64))) < 1
    assert log(np.float32(1)) == 0


def test_exponential() -> None:
    x = np.concatenate([np.linspace(-87, 88, 2_000_000), -np.geomspace(1e-9, 1, 200_000)]).astype(np.float32)
    assert units_off(_exps, x, np.exp(x.astype(np.float64))) < 1
    assert exp(np.float32(0)) == 1


@pytest.mark.parametrize(("x", "nearest"), [(-200, -87), (200, 88), (-math.inf, -87), (math.inf, 88)])
def test_the_exponential_stays_in_range(x: float, nearest: float) -> None:
    assert exp(np.float32(x)) == exp(np.float32(nearest)) > 0
    assert math.isnan(exp(np.float32(math.nan)))
