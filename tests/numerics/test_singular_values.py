"""Spectra against dense SVD, planted values, gauges, scales and every degenerate case."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarank.errors import AdapterError, NumericsError
from lorarank.numerics import core, gram_route
from lorarank.numerics.criteria import numerical
from lorarank.numerics.linalg import singular_values

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=200)
dimensions = st.integers(1, 40)
seeds = st.integers(0, 2**31)


def orthonormal(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((n, k)))[0]


def planted(rng: np.random.Generator, out: int, inp: int, sigma: np.ndarray, share_B: float = 0.5):
    """Factors (A, B) of U·diag(sigma)·Vᵀ in a random orthogonal gauge, B holding sigma**share_B."""
    r = len(sigma)
    gauge = orthonormal(rng, r, r)
    B = (orthonormal(rng, out, r) * sigma**share_B) @ gauge
    A = gauge.T @ (orthonormal(rng, inp, r) * sigma ** (1 - share_B)).T
    return A, B


@REPRODUCIBLE
@given(
    dimensions,
    dimensions,
    st.integers(1, 50),
    st.sampled_from(["f2", "f4", "f8"]),
    st.floats(-4, 4, allow_subnormal=False),
    seeds,
)
def test_equals_dense_svd(out, inp, r, dtype, scaling, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((r, inp)).astype(dtype), rng.standard_normal((out, r)).astype(dtype)
    sv = singular_values(A, B, scaling)
    A, B = A.astype(float), B.astype(float)
    dense = np.linalg.svd(scaling * B @ A, compute_uv=False)
    tolerance = 1e-13 * abs(scaling) * np.linalg.norm(A) * np.linalg.norm(B)
    assert sv.dtype == np.float64
    assert sv.shape == (min(out, inp, r),)
    assert (np.diff(sv) <= 0).all()
    np.testing.assert_allclose(sv, dense[: len(sv)], rtol=0, atol=tolerance)
    assert (dense[len(sv) :] <= tolerance).all()


@pytest.mark.parametrize("share_B", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("decades", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15])
def test_planted_spectrum_comes_back_on_both_routes(decades, share_B):
    rng = np.random.default_rng(decades)
    for out, inp, r in ((70, 40, 16), (300, 500, 64), (33, 33, 32)):
        sigma = np.logspace(0, -decades, r)
        A, B = planted(rng, out, inp, sigma, share_B)
        np.testing.assert_allclose(singular_values(A, B), sigma, rtol=0, atol=1e-12)


def test_the_gram_route_is_the_ordinary_one_and_qr_the_exception():
    rng = np.random.default_rng(0)
    A, B = planted(rng, 300, 200, np.logspace(0, -3, 32))
    easy = core.core_of(A, B)
    assert easy.left.from_gram
    assert easy.right.from_gram
    A, B = planted(rng, 300, 200, np.logspace(0, -12, 32))
    hard = core.core_of(A, B)
    assert not hard.left.from_gram
    assert not hard.right.from_gram


def test_the_gram_route_keeps_its_bound_wherever_it_is_accepted():
    """Well-conditioned A, B worse and worse: the error never jumps at the change of route."""
    rng = np.random.default_rng(1)
    routes = set()
    for decades in np.linspace(2, 8, 25):
        sigma = np.logspace(0, -decades, 24)
        A, B = planted(rng, 200, 150, sigma, share_B=1.0)
        routes.add(core.core_of(A, B).left.from_gram)
        np.testing.assert_allclose(singular_values(A, B), sigma, rtol=0, atol=5e-13)
    assert routes == {True, False}


@REPRODUCIBLE
@given(st.integers(1, 12), st.floats(0, 8), seeds)
def test_the_determinant_bounds_the_inverse_of_a_root(r, decades, seed):
    root = np.triu(np.random.default_rng(seed).standard_normal((r, r))) * np.logspace(0, -decades, r)
    root[np.diag_indices(r)] = np.abs(root.diagonal()) + 1e-6
    (bound,) = gram_route._inverse_bound(root[np.newaxis], np.square(root).sum(axis=0)[np.newaxis])
    assert bound >= np.linalg.norm(np.linalg.inv(root)) * (1 - 1e-9)


@REPRODUCIBLE
@given(st.integers(1, 12), st.integers(0, 20), st.integers(0, 20), st.floats(0, 3), seeds)
def test_gauge_invariance(r, more_out, more_in, decades, seed):
    rng = np.random.default_rng(seed)
    A, B = planted(rng, r + more_out, r + more_in, np.linspace(2, 1, r))
    M = (orthonormal(rng, r, r) * np.logspace(0, -decades, r)) @ orthonormal(rng, r, r)
    np.testing.assert_allclose(
        singular_values(np.linalg.solve(M, A), B @ M), singular_values(A, B), rtol=0, atol=1e-15 * 10**decades * 200
    )


@REPRODUCIBLE
@given(st.integers(1, 8), st.integers(-480, 480), st.integers(-480, 480), seeds)
def test_powers_of_two_in_factors_and_components_are_exact_in_effect(r, shift_A, shift_B, seed):
    rng = np.random.default_rng(seed)
    A, B = planted(rng, 20, 15, np.linspace(2, 1, r))
    reference = singular_values(A, B)
    scaled = singular_values(A * 2.0**shift_A, B * 2.0**shift_B)
    np.testing.assert_allclose(np.ldexp(scaled, -shift_A - shift_B), reference, rtol=1e-13)
    gauge = np.ldexp(1.0, rng.integers(-480, 480, r))
    np.testing.assert_allclose(singular_values(A / gauge[:, None], B * gauge), reference, rtol=1e-13)


@pytest.mark.parametrize(("size_A", "size_B"), [(1e150, 1e150), (1e-150, 1e-150), (1e150, 1e-150), (1e-300, 1e300)])
def test_extreme_scales_keep_a_planted_spectrum(size_A, size_B):
    rng = np.random.default_rng(2)
    sigma = np.logspace(0, -5, 12)
    A, B = planted(rng, 60, 40, sigma)
    np.testing.assert_allclose(singular_values(A * size_A, B * size_B) / size_A / size_B, sigma, rtol=0, atol=1e-12)


@REPRODUCIBLE
@given(dimensions, dimensions, st.integers(1, 50), st.integers(0, 6), seeds)
def test_numerical_rank_of_exactly_rank_deficient_factors(out, inp, r, rank, seed):
    """Small integers: B·A has the planted rank exactly, in every bit."""
    rng = np.random.default_rng(seed)
    B = rng.integers(-3, 4, (out, rank)) @ rng.integers(-3, 4, (rank, r))
    A = rng.integers(-3, 4, (r, inp))
    dense = (B @ A).astype(float)
    assert numerical(singular_values(A, B), dense.shape) == np.linalg.matrix_rank(dense)


def test_repeated_components_and_r_above_the_dimensions():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((4, 50)), rng.standard_normal((60, 4))
    sv = singular_values(np.vstack([a] * 4), np.hstack([b] * 4))
    np.testing.assert_allclose(sv[:4], 4 * singular_values(a, b), rtol=1e-12)
    assert numerical(sv, (60, 50)) == 4
    A, B = rng.standard_normal((64, 10)), rng.standard_normal((12, 64))
    np.testing.assert_allclose(singular_values(A, B), np.linalg.svd(B @ A, compute_uv=False), rtol=1e-12)


def test_zero_updates_have_zero_spectra_of_the_right_length():
    rng = np.random.default_rng(4)
    A = rng.standard_normal((8, 20))
    for zero in (
        singular_values(A, np.zeros((30, 8))),
        singular_values(np.zeros((8, 20)), np.zeros((30, 8))),
        singular_values(A, np.ones((30, 8)), scaling=0.0),
        singular_values(A * ([[1.0]] * 4 + [[0.0]] * 4), np.ones((30, 8)) * ([0.0] * 4 + [1.0] * 4)),
        singular_values(A, np.ones((30, 8)), gram_A=np.zeros((8, 8))),
    ):
        assert zero.tolist() == [0.0] * 8
    assert singular_values(A, np.zeros((3, 8))).tolist() == [0.0] * 3
    assert singular_values(np.zeros((0, 20)), np.zeros((30, 0))).tolist() == []
    assert singular_values(np.zeros((2, 0)), np.zeros((30, 2))).tolist() == []


def test_rank_one_and_one_by_one():
    np.testing.assert_allclose(singular_values([[3.0, 4.0]], [[2.0], [0.0]], 0.5), [5.0], rtol=1e-15)
    np.testing.assert_allclose(singular_values([[-3.0]], [[2.0]], -0.5), [3.0], rtol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["lora_A", "lora_B", "gram_A", "gram_B"])
def test_values_that_are_no_numbers_are_named(where, bad):
    arrays = {"lora_A": np.ones((2, 5)), "lora_B": np.ones((4, 2)), "gram_A": np.eye(2), "gram_B": np.eye(2)}
    arrays[where][1, 1] = bad
    given_arrays = {name: arrays[name] for name in {"lora_A", "lora_B", where}}
    with pytest.raises(NumericsError, match=where) as caught:
        singular_values(**given_arrays)
    assert caught.value.where == where


def test_other_bad_input_is_said():
    A, B = np.ones((2, 5)), np.ones((4, 2))
    with pytest.raises(AdapterError, match="disagree about r"):
        singular_values(A, np.ones((4, 3)))
    with pytest.raises(AdapterError, match="lora_A: has 3 dimensions"):
        singular_values(np.ones((2, 5, 1)), B)
    with pytest.raises(AdapterError, match="gram_B"):
        singular_values(A, B, gram_B=np.eye(3))
    with pytest.raises(NumericsError, match="negative diagonal"):
        singular_values(A, B, gram_A=-np.eye(2))
    with pytest.raises(NumericsError, match="negative eigenvalue"):
        singular_values(A, B, gram_A=np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(NumericsError, match="scaling"):
        singular_values(A, B, float("nan"))
    with pytest.raises(NumericsError, match="exceeds the range"):
        singular_values(A * 1e200, B * 1e200)


def test_a_tall_factor_is_upcast_in_blocks_with_the_same_result():
    rng = np.random.default_rng(5)
    A, B = rng.standard_normal((3, 7)).astype("f4"), rng.standard_normal((40_000, 3)).astype("f4")
    dense = np.linalg.svd(B.astype(float) @ A.astype(float), compute_uv=False)[:3]
    np.testing.assert_allclose(singular_values(A, B), dense, rtol=1e-13)


def test_a_tall_factor_close_to_rank_deficient_is_decomposed_in_blocks():
    sigma = 10.0 ** -np.arange(12.0)
    A, B = planted(np.random.default_rng(6), 400_000, 20, sigma, share_B=1.0)
    tracemalloc.start()
    found = core.core_of(A, B)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.left.from_gram
    np.testing.assert_allclose(found.s * 2.0**found.exponent, sigma, atol=1e-14)
    assert peak < B.nbytes


@REPRODUCIBLE
@given(dimensions, dimensions, st.integers(1, 20), st.booleans(), st.booleans(), seeds)
def test_weighted_metrics_equal_dense(out, inp, r, weigh_in, weigh_out, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((r, inp)), rng.standard_normal((out, r))
    root_C = rng.standard_normal((inp, inp)) if weigh_in else np.eye(inp)
    root_G = rng.standard_normal((out, out)) if weigh_out else np.eye(out)
    sv = singular_values(
        A,
        B,
        2.0,
        gram_A=A @ root_C @ root_C.T @ A.T if weigh_in else None,
        gram_B=B.T @ root_G.T @ root_G @ B if weigh_out else None,
    )
    dense = np.linalg.svd(2.0 * root_G @ B @ A @ root_C, compute_uv=False)
    size = np.linalg.norm(root_G @ B) * np.linalg.norm(A @ root_C)
    assert sv.shape == (min(out, inp, r),)
    # A Gram matrix rounded in float64 knows its smallest values to √eps only.
    np.testing.assert_allclose(sv, dense[: len(sv)], rtol=0, atol=1e-7 * size)
    np.testing.assert_allclose(sv[0], dense[0], rtol=0, atol=1e-12 * size)


def test_a_gram_matrix_of_few_tokens_leaves_its_rank():
    rng = np.random.default_rng(6)
    A, B, tokens = rng.standard_normal((16, 100)), rng.standard_normal((80, 16)), rng.standard_normal((100, 5))
    h = A @ tokens
    sv = singular_values(A, B, gram_A=h @ h.T)
    np.testing.assert_allclose(sv[:5], np.linalg.svd(B @ h, compute_uv=False)[:5], rtol=1e-10)
    assert (sv[5:] <= 1e-12 * sv[0]).all()
