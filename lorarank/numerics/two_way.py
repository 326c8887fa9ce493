"""Rows and columns that add up: a table with empty cells, fitted by least squares (floor 0).

Points that share a seed see the same rows in the same order whatever their rank, so a seed moves all of them alike. The
two-way layout without interaction, ``value[row, column] = row + column + error``, takes that shared part out, and
rows that were seen in some columns alone are compared as if all had been seen in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class TwoWay:
    """The fit of a table whose cells are known by row and column, whatever values they are to hold.

    Attributes
    ----------
    weights : (rows, cells) each row's effect as a linear combination of the cells, rows ascending: its mean over all
        columns, of which those that it lacks are filled in by the model.
    leftover : (cells, cells) takes the cells' values to what the model leaves of them.
    freedom : degrees of freedom of that, cells − rows − columns + 1.
    """

    weights: NDArray[np.float64]
    leftover: NDArray[np.float64]
    freedom: int

    def spread(self, values: ArrayLike) -> float:
        """Standard deviation of the error of a cell, from (cells,) values; NaN without a degree of freedom."""
        left = self.leftover @ np.asarray(values, dtype=np.float64)
        return float(np.sqrt(left @ left / self.freedom)) if self.freedom else float("nan")

    def factor(self, first: int, second: int) -> float:
        """Standard error of the difference of two rows' effects, in standard deviations of a cell's error.

        Errors are independent, so the variance of a combination of cells is the sum of its squared weights.
        """
        return float(np.linalg.norm(self.weights[first] - self.weights[second]))


def two_way(rows: Sequence[int], columns: Sequence[int]) -> TwoWay:
    """Fit rows and columns to cells.

    Parameters
    ----------
    rows, columns : (cells,) where each cell stands.

    Returns
    -------
    The fit. Where rows fall into groups that have no column in common, a column's effect cannot be told from a row's;
    then columns are left out, and a row is the mean of its cells.

    References
    ----------
    H. Scheffé, The Analysis of Variance, 1959, chapter 4 (the two-way layout, without interaction where it is not
    replicated, and with unequal numbers in the cells).

    Examples
    --------
    The second row lacks the column in which the first is higher by one:

    >>> fit = two_way([1, 1, 2], [0, 1, 0])
    >>> (fit.weights @ [5.0, 6.0, 7.0]).round(6).tolist(), fit.freedom, round(fit.factor(0, 1) ** 2, 6)
    ([5.5, 7.5], 0, 2.0)
    """
    of_rows = np.equal.outer(rows, np.unique(rows)).astype(np.float64)
    of_columns = np.equal.outer(columns, np.unique(columns)).astype(np.float64)
    # effects of the columns add up to zero, so that a row's effect is its mean over all of them
    both = np.hstack([of_rows, of_columns[:, 1:] - of_columns[:, :1]])
    design = both if np.linalg.matrix_rank(both) == both.shape[1] else of_rows
    solved = np.asarray(np.linalg.lstsq(design, np.eye(len(rows)), rcond=None)[0], dtype=np.float64)
    return TwoWay(
        weights=solved[: of_rows.shape[1]],
        leftover=np.eye(len(rows)) - design @ solved,
        freedom=len(rows) - design.shape[1],
    )
