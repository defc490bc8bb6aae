"""Kuhn and Munkres' assignment with the tie-breaking of the Python package munkres 1.1.4.

Where several assignments have the same total cost, solvers differ in which one they return. The published
code used munkres 1.x, which visits the matrix in an order of its own; so does this. (From version 2 on that
package is another program, with other ties.)

Munkres, "Algorithms for the Assignment and Transportation Problems", 1957, in the six steps of R. Pilgrim's
tutorial "Munkres' Assignment Algorithm".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64


def munkres_pairs(cost: Float64[np.ndarray, "r c"]) -> list[tuple[int, int]]:
    """Assign rows to columns at minimum total cost; (row, column) pairs in order of rows.

    The smaller side is padded with zeros.

    Raises:
        ValueError: a cost is not finite.
    """
    if not np.isfinite(cost).all():
        raise ValueError(
            "expected finite costs, got NaN or infinity; the network's tags or heatmaps hold some"
        )
    side = max(cost.shape)
    padded = np.zeros((side, side))
    padded[: cost.shape[0], : cost.shape[1]] = cost
    table = _Table(
        cost=padded - padded.min(axis=1, keepdims=True),
        starred=np.zeros((side, side), dtype=bool),
        row_covered=np.zeros(side, dtype=bool),
        column_covered=np.zeros(side, dtype=bool),
    )
    table.star_first_zeros()
    while not table.starred.any(axis=0).all():
        table.add_star()
    rows, columns = np.nonzero(table.starred[: cost.shape[0], : cost.shape[1]])
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


@dataclass
class _Table:
    """The reduced costs, with the zeros that are starred (part of the assignment) and the covered lines."""

    cost: Float64[np.ndarray, "n n"]
    starred: Bool[np.ndarray, "n n"]
    row_covered: Bool[np.ndarray, " n"]
    column_covered: Bool[np.ndarray, " n"]

    def star_first_zeros(self) -> None:
        """Star, row by row, the first zero in a column that has no star yet."""
        for row in range(len(self.cost)):
            free = (self.cost[row] == 0) & ~self.starred.any(axis=0)
            if free.any():
                self.starred[row, free.argmax()] = True

    def add_star(self) -> None:
        """Prime uncovered zeros until one has no star in its row, then change stars along its path."""
        self.row_covered[:] = False
        self.column_covered[:] = self.starred.any(axis=0)
        primes: dict[int, int] = {}  # row -> column
        row = column = 0
        while True:
            zero = self._uncovered_zero(row, column)
            if zero is None:
                self._make_zero()
                row = column = 0
                continue
            row, column = zero
            primes[row] = column
            if not self.starred[row].any():
                return self._change_stars(row, primes)
            column = int(self.starred[row].argmax())
            self.row_covered[row] = True
            self.column_covered[column] = False

    def _uncovered_zero(self, row: int, column: int) -> tuple[int, int] | None:
        """In the first row with any, from ``row`` on and around, the last from ``column`` on and around."""
        zeros = (self.cost == 0) & ~self.row_covered[:, None] & ~self.column_covered
        rows = np.roll(zeros.any(axis=1), -row)
        if not rows.any():
            return None
        side = len(rows)
        row = (row + int(rows.argmax())) % side
        last = side - 1 - int(np.roll(zeros[row], -column)[::-1].argmax())
        return row, (column + last) % side

    def _make_zero(self) -> None:
        """Add the smallest uncovered cost to covered rows and take it from uncovered columns.

        Both happen to a covered row in an uncovered column, whose costs rounding may then change.
        """
        smallest = self.cost[~self.row_covered][:, ~self.column_covered].min()
        self.cost[self.row_covered] += smallest
        self.cost[:, ~self.column_covered] -= smallest

    def _change_stars(self, row: int, primes: dict[int, int]) -> None:
        """Star the prime of ``row`` instead of the star in its column, and go on in that star's row."""
        while True:
            column = primes[row]
            stars = np.nonzero(self.starred[:, column])[0]
            self.starred[row, column] = True
            if not len(stars):
                return
            row = int(stars[0])
            self.starred[row, column] = False
