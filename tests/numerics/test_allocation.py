"""Allocation against brute force, weighted quantiles against numpy, the ladder."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarank.errors import NumericsError, OptionError
from lorarank.numerics.allocation import allocate, weighted_quantile

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=150)
spectrum = st.lists(st.integers(0, 9).map(float), max_size=4)


@st.composite
def problems(draw):
    spectra = draw(st.lists(spectrum, min_size=1, max_size=4))
    costs = draw(st.lists(st.integers(1, 7), min_size=len(spectra), max_size=len(spectra)))
    return spectra, costs, draw(st.integers(0, 60))


def energy(spectra, ranks):
    return sum(sum(sorted(sv, reverse=True)[i] ** 2 for i in range(k)) for sv, k in zip(spectra, ranks, strict=True))


def spent(costs, ranks):
    return sum(c * k for c, k in zip(costs, ranks, strict=True))


def best(spectra, costs, budget):
    every = product(*(range(len(sv) + 1) for sv in spectra))
    return max(energy(spectra, ranks) for ranks in every if spent(costs, ranks) <= budget)


@REPRODUCIBLE
@given(problems())
def test_within_budget_and_optimal_for_what_it_spends(problem):
    spectra, costs, budget = problem
    ranks = allocate(spectra, costs, budget)
    used = spent(costs, ranks)
    assert used <= budget
    assert all(0 <= k <= np.count_nonzero(sv) for k, sv in zip(ranks, spectra, strict=True))
    assert energy(spectra, ranks) == best(spectra, costs, used)
    if any(k < np.count_nonzero(sv) for k, sv in zip(ranks, spectra, strict=True)):
        assert budget - used < max(costs)


@REPRODUCIBLE
@given(problems(), st.integers(1, 7))
def test_equal_costs_are_optimal_for_the_budget(problem, cost):
    spectra, _, budget = problem
    costs = [cost] * len(spectra)
    assert energy(spectra, allocate(spectra, costs, budget)) == best(spectra, costs, budget)


@REPRODUCIBLE
@given(problems(), st.integers(0, 60))
def test_a_larger_budget_takes_no_rank_away(problem, more):
    spectra, costs, budget = problem
    smaller, larger = allocate(spectra, costs, budget), allocate(spectra, costs, budget + more)
    assert all(a <= b for a, b in zip(smaller, larger, strict=True))


def test_scale_changes_nothing_and_zeros_are_free_to_leave():
    spectra = [[5.0, 3.0, 1.0], [4.0, 2.0, 0.0]]
    for scale in (1e-200, 1.0, 1e200):
        assert allocate([np.array(sv) * scale for sv in spectra], [10, 20], 45) == (2, 1)
    assert allocate(spectra, [10, 20], 10**9) == (3, 2)
    assert allocate(spectra, [10, 20], 0) == (0, 0)
    assert allocate([], [], 5) == ()
    assert allocate([[]], [3], 5) == (0,)
    assert allocate([[1.0], [1.0]], [1, 1], 1) == (1, 0)  # a tie goes to the first


def test_bad_problems_are_refused():
    with pytest.raises(OptionError, match="number 1 for 2 spectra"):
        allocate([[1.0], [1.0]], [1], 1)
    with pytest.raises(OptionError, match="cost_per_rank"):
        allocate([[1.0]], [0], 1)
    with pytest.raises(OptionError, match="budget"):
        allocate([[1.0]], [1], -1)
    with pytest.raises(NumericsError, match="singular values"):
        allocate([[np.nan]], [1], 1)


values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@REPRODUCIBLE
@given(values, st.integers(0, 100))
def test_equal_weights_are_the_inverted_distribution_function(vs, percent):
    expected = np.quantile(vs, percent / 100, method="inverted_cdf")
    assert weighted_quantile(vs, np.full(len(vs), 0.3), percent / 100) == expected


@REPRODUCIBLE
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 5)), min_size=1, max_size=12), st.integers(0, 100))
def test_whole_weights_are_repetitions(pairs, percent):
    repeated = [v for v, w in pairs for _ in range(w)]
    vs, ws = zip(*pairs, strict=True)
    if not repeated:
        with pytest.raises(NumericsError, match="at least one positive"):
            weighted_quantile(vs, ws, percent / 100)
        return
    q = percent / 100
    wanted = sorted(repeated)[max(0, -(-percent * len(repeated) // 100) - 1)]  # exact: ceil(q·n) - 1
    assert weighted_quantile(vs, ws, q) == wanted
    assert weighted_quantile(vs, np.array(ws) * 1e300, q) == weighted_quantile(vs, np.array(ws) * 1e-300, q) == wanted


@REPRODUCIBLE
@given(values, st.randoms(use_true_random=False), st.floats(0, 1), st.floats(0, 1))
def test_monotone_in_q(vs, random, one, two):
    weights = [random.random() + 0.01 for _ in vs]
    low, high = sorted((one, two))
    assert weighted_quantile(vs, weights, low) <= weighted_quantile(vs, weights, high)


def test_quantile_ends_and_errors():
    assert weighted_quantile([5, 1, 9], [1, 0, 1], 0) == 5.0  # no weight, no vote
    assert weighted_quantile([5, 1, 9], [1, 1, 1], 1) == 9.0
    for q in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="quantile"):
            weighted_quantile([1], [1], q)
    with pytest.raises(OptionError, match="weights"):
        weighted_quantile([1, 2], [1], 0.5)
    with pytest.raises(OptionError, match="weights"):
        weighted_quantile([], [], 0.5)
    with pytest.raises(NumericsError, match="values, weights"):
        weighted_quantile([1, np.nan], [1, 1], 0.5)
    with pytest.raises(NumericsError, match="values, weights"):
        weighted_quantile([1, 2], [1, -1], 0.5)
