"""The published code's assignment: munkres 1.x, of equal cost with SciPy."""

import sys

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from swahr.grouping import OfficialGrouping, official
from swahr.grouping.official import munkres_solver


def pairs_of(rows: np.ndarray, columns: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_all_golden_matrices(golden_arrays):
    """Exactly munkres 1.1.4's pairs; SciPy's cost the same."""
    golden = golden_arrays("d_munkres.npz")
    shapes = np.stack([golden["rows"], golden["cols"]], axis=1).astype(int)
    assert len(shapes) == 286
    costs = np.split(golden["cost"], np.cumsum(shapes.prod(axis=1))[:-1])
    expected = np.split(golden["pairs"], np.cumsum(golden["npairs"].astype(int))[:-1])
    solve = munkres_solver()
    for shape, flat, pairs in zip(shapes, costs, expected, strict=True):
        cost = flat.reshape(shape)
        rows, columns = solve(cost)
        assert pairs_of(rows, columns) == list(map(tuple, pairs.tolist()))
        assert cost[linear_sum_assignment(cost)].sum() == pytest.approx(cost[rows, columns].sum(), rel=1e-12)


def test_ties_are_broken_as_by_munkres_1():
    solve = munkres_solver()
    assert pairs_of(*solve(np.zeros((3, 3)))) == [(0, 0), (1, 1), (2, 2)]
    assert pairs_of(*solve(np.ones((2, 4)))) == [(0, 0), (1, 1)]
    cost = np.array([[1.0, 1, 2], [1, 1, 1], [0, 1, 1], [0, 0, 1]])
    assert pairs_of(*solve(cost)) == [(1, 2), (2, 0), (3, 1)]


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "munkres", None)
    with pytest.raises(ImportError, match=r"pip install 'swahr\[official\]'; solver 'scipy' needs none"):
        OfficialGrouping((0, 1))
    OfficialGrouping((0, 1), solver="scipy")


@pytest.mark.parametrize("version", ["2.0.0", "10.1"])
def test_later_versions_break_ties_in_another_way_and_are_refused(monkeypatch, version: str):
    monkeypatch.setattr(official, "version", lambda package: version)
    with pytest.raises(ImportError, match=rf"expected munkres 1\.x.*got {version}"):
        OfficialGrouping((0, 1))


def test_an_unknown_solver(untyped):
    with pytest.raises(ValueError, match="solver: expected one of 'munkres', 'scipy', got 'greedy'"):
        OfficialGrouping((0, 1), solver="greedy")
