"""From many modules to numbers: a rank for each under a parameter budget, and weighted quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import numpy as np
from numpy.typing import ArrayLike

from lorarank.errors import NumericsError, OptionError
from lorarank.numerics.core import EPS, Floats


def allocate(spectra: Sequence[ArrayLike], cost_per_rank: Sequence[int], budget: int) -> tuple[int, ...]:
    """Rank of each module such that Σ rank·cost ≤ ``budget``, by descending energy per parameter, σ²/cost.

    Energies of one module only fall, so buying the best remaining σ²/cost is optimal for what it spends (Fox 1966,
    "Discrete optimization via marginal analysis", Management Science 13): no allocation of the same cost keeps more
    energy. Buying stops at the first value that the budget cannot pay, so that

    * the answer is one global threshold on σ²/cost (for equal shapes: on pooled σ), and
    * a larger budget never takes a rank away from any module.

    What is left over is less than the cost of one rank of the dearest module. With equal costs the answer is optimal
    for the budget.

    Parameters
    ----------
    spectra : singular values ≥ 0 of each module, any length and order, in comparable units; zeros are never bought.
    cost_per_rank : parameters of one unit of rank, out + in for a matrix; positive.
    budget : parameters, 0 or more.

    Raises
    ------
    OptionError : lengths that differ, a cost below 1, a negative budget. NumericsError : values not finite or
    negative.

    >>> allocate([[3.0, 2.0, 0.0], [2.5, 0.1]], [10, 10], budget=30)
    (2, 1)
    """
    costs, budget = [index(cost) for cost in cost_per_rank], index(budget)
    if len(spectra) != len(costs):
        raise OptionError("cost_per_rank", f"number {len(costs)} for {len(spectra)} spectra", do="give one for each")
    if min(costs, default=1) < 1:
        raise OptionError("cost_per_rank", f"has the entry {min(costs)}", do="give the positive number out + in")
    if budget < 0:
        raise OptionError("budget", f"is {budget}", do="give a number of parameters, 0 or more")
    if not costs:
        return ()
    values = [np.sort(np.asarray(sv, dtype=np.float64).ravel())[::-1] for sv in spectra]
    pooled = np.concatenate(values)
    if not np.isfinite(pooled).all() or (pooled < 0).any():
        raise NumericsError("singular values", "are not all finite numbers ≥ 0", do="check the factors")
    module = np.repeat(np.arange(len(values)), [len(sv) for sv in values])
    cost = np.array(costs, dtype=np.int64)[module]
    price = pooled / np.sqrt(cost)  # the order of σ²/cost, without squares that underflow
    order = np.argsort(-price, kind="stable")  # ties go to the earlier module
    order = order[pooled[order] > 0]
    bought = order[np.cumsum(cost[order]) <= budget]  # costs are positive: a prefix
    return tuple(np.bincount(module[bought], minlength=len(values)).tolist())


def weighted_quantile(values: ArrayLike, weights: ArrayLike, q: float) -> float:
    """The smallest value v such that the values ≤ v carry at least the share ``q`` of the total weight, 0 ≤ q ≤ 1.

    Always one of ``values`` with a positive weight, never an interpolation; q = 0 gives the smallest of those. Equal
    weights: ``numpy.quantile(..., method="inverted_cdf")``. The comparison has n·eps of slack, so that a share met
    exactly in decimals is met.

    Raises
    ------
    OptionError : q outside [0, 1], or lengths that differ or are 0. NumericsError : a value that is not finite, a
    weight that is not finite or negative, or no positive weight.

    >>> weighted_quantile([4, 1, 9], [1.0, 2.0, 1.0], 0.5), weighted_quantile([4, 1, 9], [1.0, 2.0, 1.0], 0.76)
    (1.0, 9.0)
    """
    return float(weighted_quantiles(np.asarray(values, dtype=np.float64).ravel()[np.newaxis], weights, q)[0])


def weighted_quantiles(values: ArrayLike, weights: ArrayLike, q: float) -> Floats:
    """:func:`weighted_quantile` of every row of ``values`` (k, n) with the same weights (n,).

    >>> weighted_quantiles([[4, 1, 9], [1, 2, 3]], [1.0, 2.0, 1.0], 0.5)
    array([1., 2.])
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64).ravel()
    if not 0 <= q <= 1:
        raise OptionError("quantile", f"is {q}", do="give a number from 0 to 1")
    if v.shape[1] != w.size or w.size == 0:
        raise OptionError("weights", f"number {w.size} for {v.shape[1]} values", do="give one weight for each value")
    if not (np.isfinite(v).all() and np.isfinite(w).all()) or (w < 0).any() or not w.any():
        raise NumericsError("values, weights", "are not finite values with finite weights ≥ 0, at least one positive")
    order = np.argsort(v, axis=1, kind="stable")
    reached = np.cumsum(w[order] / w.max(), axis=1)
    passed = (reached >= q * reached[:, -1:] * (1 - w.size * EPS)) & (w[order] > 0)
    place = np.argmax(passed, axis=1)[:, np.newaxis]
    return np.asarray(np.take_along_axis(v, np.take_along_axis(order, place, axis=1), axis=1)[:, 0])
