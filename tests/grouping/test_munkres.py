"""Assignments: the published code's, and of equal cost with SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from swahr.grouping.munkres import munkres_pairs

PROHIBITIVE = 1e10


def total(cost: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    return float(sum(cost[pair] for pair in pairs))


def scipy_pairs(cost: np.ndarray) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in zip(*linear_sum_assignment(cost), strict=True)]


def test_all_golden_matrices(golden_arrays):
    """Exactly munkres 1.1.4's pairs; SciPy's cost the same."""
    golden = golden_arrays("d_munkres.npz")
    shapes = np.stack([golden["rows"], golden["cols"]], axis=1).astype(int)
    assert len(shapes) == 286
    costs = np.split(golden["cost"], np.cumsum(shapes.prod(axis=1))[:-1])
    official = np.split(golden["pairs"], np.cumsum(golden["npairs"].astype(int))[:-1])
    for shape, flat, pairs in zip(shapes, costs, official, strict=True):
        cost, expected = flat.reshape(shape), list(map(tuple, pairs.tolist()))
        assert munkres_pairs(cost) == expected
        assert total(cost, scipy_pairs(cost)) == pytest.approx(total(cost, expected), rel=1e-12)


@settings(deadline=None, max_examples=150)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.one_of(st.integers(0, 3).map(float), st.floats(-1, 1, width=32), st.just(PROHIBITIVE)),
    )
)
def test_every_row_or_column_is_assigned_once_at_scipys_cost(cost: np.ndarray):
    pairs = munkres_pairs(cost)
    rows, columns = zip(*pairs, strict=True)
    assert len(pairs) == len(set(rows)) == len(set(columns)) == min(cost.shape)
    # Sums of few prohibitive costs keep about six digits after the point.
    assert total(cost, pairs) == pytest.approx(total(cost, scipy_pairs(cost)), rel=1e-12, abs=1e-4)


def test_ties_are_broken_as_by_munkres_1():
    """Of the package itself, version 1.1.4, on matrices of equal and of few different costs."""
    assert munkres_pairs(np.zeros((3, 3))) == [(0, 0), (1, 1), (2, 2)]
    assert munkres_pairs(np.ones((2, 4))) == [(0, 0), (1, 1)]
    assert munkres_pairs(np.array([[1.0, 1, 2], [1, 1, 1], [0, 1, 1], [0, 0, 1]])) == [(1, 2), (2, 0), (3, 1)]


def test_a_cost_that_is_no_number():
    with pytest.raises(ValueError, match="finite costs, got NaN"):
        munkres_pairs(np.array([[0.0, np.nan]]))
