"""Rows and columns by least squares: planted effects, closed forms, tables that fall apart."""

from __future__ import annotations

import numpy as np
import pytest

from lorarank.numerics.two_way import two_way


def table(seen: dict[int, tuple[int, ...]]) -> tuple[list[int], list[int]]:
    cells = [(row, column) for row, columns in seen.items() for column in columns]
    return [row for row, _ in cells], [column for _, column in cells]


def test_planted_effects_come_back_whatever_is_missing() -> None:
    rows, columns = table({1: (0,), 2: (0, 1, 2), 4: (1, 2), 8: (0, 2)})
    effects, shifts = {1: 3.0, 2: 2.0, 4: 1.5, 8: 1.0}, {0: 0.5, 1: -0.2, 2: -0.3}  # the shifts add up to zero
    values = [effects[row] + shifts[column] for row, column in zip(rows, columns, strict=True)]
    fit = two_way(rows, columns)
    assert fit.weights @ values == pytest.approx(list(effects.values()), abs=1e-12)
    assert fit.freedom == 8 - 4 - 3 + 1
    assert fit.spread(values) == pytest.approx(0.0, abs=1e-12)


def test_a_full_table_gives_the_means() -> None:
    rows, columns = table(dict.fromkeys(range(4), (0, 1, 2)))
    values = np.random.default_rng(0).normal(size=12)
    fit = two_way(rows, columns)
    grid = values.reshape(4, 3)
    assert fit.weights @ values == pytest.approx(grid.mean(axis=1))
    left = grid - grid.mean(axis=1, keepdims=True) - grid.mean(axis=0) + grid.mean()
    assert fit.freedom == 3 * 2
    assert fit.spread(values) == pytest.approx(np.sqrt((left**2).sum() / 6))
    assert fit.factor(0, 3) == pytest.approx(np.sqrt(2 / 3))


def test_the_factor_is_that_of_many_tables() -> None:
    rows, columns = table({1: (0,), 2: (0, 1, 2), 4: (0, 1, 2), 8: (0,)})
    fit = two_way(rows, columns)
    errors = np.random.default_rng(0).normal(size=(len(rows), 20_000))
    effects = fit.weights @ errors
    for other in (1, 3):
        assert np.std(effects[0] - effects[other]) == pytest.approx(fit.factor(0, other), rel=0.02)
    assert fit.factor(0, 3) == pytest.approx(np.sqrt(2))  # one seed each, the same: its effect is in neither
    # its own error and that of the cell of the other row, of a full table of two rows and three columns
    assert fit.factor(0, 1) == pytest.approx(np.sqrt(1 + (1 / 3 + 1 / 2 - 1 / 6)))


def test_one_cell_a_row_is_left_as_it_is() -> None:
    fit = two_way([1, 2, 4], [0, 0, 0])
    assert np.array_equal(fit.weights, np.eye(3))
    assert fit.freedom == 0
    assert np.isnan(fit.spread([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("seen", "freedom"), [({1: (0, 1), 2: (2, 3)}, 2), ({1: (0,), 2: (1,)}, 0), ({1: (0, 1), 2: (0, 1), 4: (5,)}, 2)]
)
def test_rows_that_share_no_column_are_the_means_of_their_cells(seen: dict[int, tuple[int, ...]], freedom: int) -> None:
    rows, columns = table(seen)
    fit = two_way(rows, columns)
    values = np.arange(float(len(rows))) ** 2
    means = [values[np.equal(rows, row)].mean() for row in seen]
    assert fit.weights @ values == pytest.approx(means)
    assert fit.freedom == freedom
