"""Cores of many modules at once are those of each alone, to the last bit, wherever they are accepted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarank.numerics import core, gram_route
from lorarank.numerics.linalg import singular_values
from lorarank.numerics.stacked import cores_of, gram_pair, singular_values_of

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=100)
seeds = st.integers(0, 2**31)


def planted(rng: np.random.Generator, r: int, decades: float, share_B: float) -> tuple[np.ndarray, np.ndarray]:
    """Factors (A, B) of a spectrum that falls by so many decades."""
    sigma = np.logspace(0, -decades, r)
    U, V = (np.linalg.qr(rng.standard_normal((n, r)))[0] for n in (r + 9, r + 4))
    gauge = np.linalg.qr(rng.standard_normal((r, r)))[0]
    return gauge.T @ (sigma ** (1 - share_B) * V).T, U * sigma**share_B @ gauge


@REPRODUCIBLE
@given(st.integers(2, 12), st.lists(st.tuples(st.floats(0, 12), st.sampled_from([0.0, 0.5, 1.0])), min_size=1), seeds)
def test_each_is_accepted_as_it_is_alone_and_has_the_same_values(r, spectra, seed):
    rng = np.random.default_rng(seed)
    pairs = [planted(rng, r, decades, share) for decades, share in spectra]
    grams = [gram_pair(A, B) for A, B in pairs]
    served = [place for place, gram in enumerate(grams) if gram is not None and positive(gram)]
    if not served:
        return
    found = cores_of(np.stack([grams[place] for place in served]))
    alone = [core.core_of(*pairs[place]) for place in served]
    assert found.accepted.tolist() == [one.left.from_gram and one.right.from_gram for one in alone]
    for s, exponent, accepted, one in zip(found.s, found.exponents, found.accepted, alone, strict=True):
        if accepted:
            assert exponent == one.exponent
            assert s.tolist() == one.s.tolist()


def positive(gram: np.ndarray) -> bool:
    """Whether both have a Cholesky factor."""
    try:
        np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        return False
    return True


def test_one_that_has_no_cholesky_factor_leaves_all_to_be_looked_at_alone():
    rng = np.random.default_rng(0)
    easy = gram_pair(*planted(rng, 4, 1.0, 0.5))
    twice = np.ones((4, 9))
    broken = np.stack([easy[0], twice @ twice.T - 1e-3 * np.eye(4)])
    assert singular_values_of(np.stack([easy, broken]), [1.0, 1.0]) == [None, None]


@pytest.mark.parametrize(
    "factor", [np.zeros((3, 7)), np.full((3, 7), 1e-200), np.full((3, 7), np.nan), np.ones((3, 2))]
)
def test_what_the_gram_route_does_not_serve(factor):
    assert gram_pair(factor, np.eye(7, 3)) is None


@pytest.mark.parametrize("scaling", [np.nan, np.inf])
def test_a_scaling_that_is_no_number_is_left_to_be_said_of_the_module_alone(scaling):
    A, B = planted(np.random.default_rng(0), 4, 1.0, 0.5)
    good, bad = singular_values_of(np.stack([gram_pair(A, B)] * 2), [-2.0, scaling])
    assert good.tolist() == singular_values(A, B, -2.0).tolist()
    assert bad is None


@REPRODUCIBLE
@given(st.integers(1, 8), st.floats(0, 9), seeds)
def test_what_is_accepted_keeps_the_bound(r, decades, seed):
    """Against inverses computed whole: none is accepted that the formula in full would not accept."""
    A, B = planted(np.random.default_rng(seed), r, decades, 1.0)
    one = core.core_of(A, B)
    if not (one.left.from_gram and one.right.from_gram):
        return
    scale = np.ldexp(1.0, one.left.exponents + one.right.exponents - one.exponent)
    sides = (one.left.factor, one.right.factor)
    inverses = [np.linalg.norm(np.linalg.inv(side)) for side in sides]
    sizes = [np.linalg.norm(side * scale) for side in sides[::-1]]
    error = gram_route.EPS * sum(inverse * size for inverse, size in zip(inverses, sizes, strict=True))
    assert error <= gram_route.GRAM_TOLERANCE * np.linalg.norm(one.s) * (1 + 1e-9)
