"""Truncated factors: Eckart–Young in the weight metric and in weighted ones, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarank.errors import OptionError
from lorarank.numerics.linalg import singular_values, truncated_factors

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=100)
dimensions = st.integers(1, 24)
seeds = st.integers(0, 2**31)


def lost(sv: np.ndarray, k: int) -> float:
    return float(np.sqrt(np.sum(sv[k:] ** 2)))


@REPRODUCIBLE
@given(dimensions, dimensions, st.integers(1, 30), st.integers(0, 32), seeds)
def test_weight_metric_is_eckart_young(out, inp, r, k, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((r, inp)), rng.standard_normal((out, r))
    A_k, B_k = truncated_factors(A, B, k)
    assert A_k.shape == (k, inp)
    assert B_k.shape == (out, k)
    assert A_k.dtype == B_k.dtype == np.float64
    U, s, Vt = np.linalg.svd(B @ A, full_matrices=False)
    size = np.linalg.norm(B) * np.linalg.norm(A)
    np.testing.assert_allclose(np.linalg.norm(B @ A - B_k @ A_k), lost(s, k), rtol=0, atol=1e-12 * size)
    if k >= min(r, out, inp):
        np.testing.assert_allclose(B_k @ A_k, B @ A, rtol=0, atol=1e-12 * size)
    elif k and s[k - 1] - s[k] > 1e-2 * s[0]:  # then the best approximation is unique, and well conditioned
        np.testing.assert_allclose(B_k @ A_k, (U[:, :k] * s[:k]) @ Vt[:k], rtol=0, atol=1e-11 * size)


@REPRODUCIBLE
@given(dimensions, dimensions, st.integers(1, 16), st.integers(0, 18), st.booleans(), st.booleans(), seeds)
def test_weighted_metrics_are_eckart_young(out, inp, r, k, weigh_in, weigh_out, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((r, inp)), rng.standard_normal((out, r))
    root_C = rng.standard_normal((inp, inp)) if weigh_in else np.eye(inp)
    root_G = rng.standard_normal((out, out)) if weigh_out else np.eye(out)
    grams = {}
    if weigh_in:
        grams["gram_A"] = A @ root_C @ root_C.T @ A.T
    if weigh_out:
        grams["gram_B"] = B.T @ root_G.T @ root_G @ B
    A_k, B_k = truncated_factors(A, B, k, **grams)
    target = root_G @ B @ A @ root_C
    s = np.linalg.svd(target, compute_uv=False)
    size = np.linalg.norm(root_G @ B) * np.linalg.norm(A @ root_C)
    error = np.linalg.norm(target - root_G @ B_k @ A_k @ root_C)
    np.testing.assert_allclose(error, lost(s, k), rtol=0, atol=1e-7 * size)
    if k >= min(r, out, inp):
        np.testing.assert_allclose(B_k @ A_k, B @ A, rtol=0, atol=1e-11 * np.linalg.norm(A) * np.linalg.norm(B))


@REPRODUCIBLE
@given(st.integers(4, 12), st.integers(0, 10), st.integers(0, 14), st.booleans(), seeds)
def test_a_metric_blind_to_directions_is_best_where_it_sees_and_keeps_what_it_does_not(r, tokens, k, both, seed):
    """Fewer held-out tokens than r: a singular Gram matrix."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((r, 20)), rng.standard_normal((15, r))
    x, g = rng.standard_normal((20, tokens)), rng.standard_normal((15, tokens))
    grams = {"gram_A": A @ x @ x.T @ A.T}
    if both:
        grams["gram_B"] = B.T @ g @ g.T @ B
    A_k, B_k = truncated_factors(A, B, k, **grams)
    assert np.isfinite(A_k).all()
    assert np.isfinite(B_k).all()

    def seen(delta):
        return (g.T if both else np.eye(15)) @ delta @ x

    s = np.linalg.svd(seen(B @ A), compute_uv=False) if tokens else np.zeros(1)
    size = np.linalg.norm(s) + 1e-9
    np.testing.assert_allclose(np.linalg.norm(seen(B @ A - B_k @ A_k)), lost(s, k), rtol=0, atol=1e-6 * size)
    if k >= r:
        np.testing.assert_allclose(B_k @ A_k, B @ A, rtol=0, atol=1e-9)
    elif k > tokens:  # the spare components went to the remainder: what is left has the rank it must have, no more
        remainder = np.linalg.svd(B @ A - B_k @ A_k, compute_uv=False)
        assert np.count_nonzero(remainder > 1e-6 * np.linalg.norm(B @ A)) <= r - k


def test_spare_components_take_the_best_of_the_remainder():
    """A metric that sees one direction only, k = 2: that one, then the largest of the rest in plain weight."""
    A, B = np.eye(3), np.diag([1.0, 3.0, 2.0])
    A_k, B_k = truncated_factors(A, B, 2, gram_A=np.diag([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(B_k @ A_k, np.diag([1.0, 3.0, 0.0]), atol=1e-14)


def test_components_are_shared_evenly_and_orthogonal():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((8, 30)) * 1e-3, rng.standard_normal((40, 8)) * 1e3
    A_k, B_k = truncated_factors(A, B, 5)
    sv = singular_values(A, B)[:5]
    np.testing.assert_allclose(A_k @ A_k.T, np.diag(sv), rtol=0, atol=1e-12 * sv[0])
    np.testing.assert_allclose(B_k.T @ B_k, np.diag(sv), rtol=0, atol=1e-12 * sv[0])
    A_k, B_k = truncated_factors(A, B, 5, gram_A=A @ A.T * 1e8)
    np.testing.assert_allclose(np.linalg.norm(A_k, axis=1), np.linalg.norm(B_k, axis=0), rtol=1e-12)


def test_degenerate_cases():
    rng = np.random.default_rng(1)
    A, B = rng.standard_normal((4, 6)), rng.standard_normal((5, 4))
    A_0, B_0 = truncated_factors(A, B, 0)
    assert (A_0.shape, B_0.shape) == ((0, 6), (5, 0))
    for zero in (truncated_factors(A, np.zeros((5, 4)), 3), truncated_factors(np.zeros((0, 6)), np.zeros((5, 0)), 3)):
        assert [f.shape for f in zero] == [(3, 6), (5, 3)]
        assert not zero[0].any()
        assert not zero[1].any()
    low = B @ np.diag([1.0, 1.0, 0.0, 0.0])
    A_k, B_k = truncated_factors(A, low, 4)
    np.testing.assert_allclose(B_k @ A_k, low @ A, atol=1e-14)
    assert not A_k[2:].any()  # beyond the rank: zeros
    A_k, B_k = truncated_factors(A, B, 2, gram_A=np.zeros((4, 4)))  # sees nothing: the weight metric
    A_w, B_w = truncated_factors(A, B, 2)
    np.testing.assert_allclose(B_k @ A_k, B_w @ A_w, atol=1e-13)
    with pytest.raises(OptionError, match="k: is -1"):
        truncated_factors(A, B, -1)


@pytest.mark.parametrize(("size_A", "size_B"), [(1e150, 1e150), (1e-150, 1e-150), (1e150, 1e-150)])
def test_extreme_scales(size_A, size_B):
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((4, 6)), rng.standard_normal((5, 4))
    A_k, B_k = truncated_factors(A * size_A, B * size_B, 2)
    A_1, B_1 = truncated_factors(A, B, 2)
    root = np.sqrt(size_A) * np.sqrt(size_B)
    np.testing.assert_allclose((B_k / root) @ (A_k / root), B_1 @ A_1, rtol=0, atol=1e-12)
    gram = A @ np.diag([4.0, 1, 1, 1, 1, 1]) @ A.T
    A_k, B_k = truncated_factors(A * size_A, B * size_B, 2, gram_A=gram * size_A * size_A)
    A_1, B_1 = truncated_factors(A, B, 2, gram_A=gram)
    np.testing.assert_allclose((B_k / root) @ (A_k / root), B_1 @ A_1, rtol=0, atol=1e-12)


@REPRODUCIBLE
@given(st.integers(1, 12), st.floats(0, 10), seeds)
def test_ill_conditioned_factors_at_full_rank_reproduce_the_update(r, decades, seed):
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((30, r)) @ (np.logspace(0, -decades, r)[:, None] * rng.standard_normal((r, r)))
    A = rng.standard_normal((r, 20))
    A_k, B_k = truncated_factors(A, B, r)
    np.testing.assert_allclose(B_k @ A_k, B @ A, rtol=0, atol=1e-12 * np.linalg.norm(A) * np.linalg.norm(B))
