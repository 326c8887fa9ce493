"""Replicated rank, agreement and subspaces against dense matrices and planted signal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from lorarank.errors import AdapterError, NumericsError, OptionError
from lorarank.numerics.criteria import energy, gavish_donoho
from lorarank.numerics.linalg import singular_values
from lorarank.numerics.replication import (
    Factors,
    agreement,
    likeness,
    principal_angles,
    replicated_rank,
    subspace_agreement,
)

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=80)
seeds = st.integers(0, 2**31)
ZERO = Factors(np.ones((2, 6)), np.zeros((5, 2)))


def dense(pair: Factors) -> np.ndarray:
    return pair.scaling * pair.lora_B @ pair.lora_A


def full(matrix: np.ndarray) -> Factors:
    return Factors(np.eye(matrix.shape[1]), matrix)


def random_pairs(rng, out, inp, r_1, r_2, common=0.0):
    """Two updates of different r that share a planted part of strength ``common``."""
    one = Factors(rng.standard_normal((r_1, inp)), rng.standard_normal((out, r_1)), rng.uniform(-2, 2))
    A, B = rng.standard_normal((r_2, inp)), rng.standard_normal((out, r_2))
    two = Factors(
        np.vstack([A, common * one.lora_A]),
        np.hstack([B, one.lora_B]),
        float(np.sign(one.scaling)) * rng.uniform(0.5, 2),
    )
    return one, two


@REPRODUCIBLE
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8), st.floats(0, 2), seeds)
def test_replicated_rank_minimises_the_dense_error_of_prediction(out, inp, r_1, r_2, common, seed):
    one, two = random_pairs(np.random.default_rng(seed), out, inp, r_1, r_2, common)
    for first, second in ((one, two), (two, one)):
        U, s, Vt = np.linalg.svd(dense(first), full_matrices=False)
        rank = np.count_nonzero(s > 1e-9 * s[0])
        errors = [np.sum((dense(second) - (U[:, :k] * s[:k]) @ Vt[:k]) ** 2) for k in range(rank + 1)]
        found = replicated_rank(first, second)
        assert 0 <= found <= rank
        assert errors[found] <= min(errors) + 1e-9 * (errors[0] + s[0] ** 2)


@pytest.mark.parametrize(("strength", "kept"), [(0.5, 0), (1.2, 0), (1.5, 0), (2.0, 3), (3.0, 3)])
def test_on_white_noise_it_is_the_gavish_donoho_threshold(strength, kept):
    """Square matrices: a planted σ of x·√n·noise is worth keeping iff x > √3, which the threshold 4/√3 is equal to."""
    rng = np.random.default_rng(0)
    n, noise = 400, 0.1
    U, V = (np.linalg.qr(rng.standard_normal((n, 3)))[0] for _ in range(2))
    signal = strength * np.sqrt(n) * noise * U @ V.T
    first, second = (full(signal + noise * rng.standard_normal((n, n))) for _ in range(2))
    assert gavish_donoho(singular_values(*first), (n, n), noise=noise) == kept
    assert replicated_rank(first, second) == replicated_rank(second, first) == kept


@pytest.mark.parametrize("R", [16, 64])
def test_pure_noise_has_replicated_rank_zero(R):
    rng = np.random.default_rng(R)
    for _ in range(10):
        one, two = (Factors(rng.standard_normal((R, 200)), rng.standard_normal((150, R))) for _ in range(2))
        assert likeness([one, two]).replicated_rank == 0.0
        shared_A = Factors(one.lora_A, two.lora_B)  # replicates start from the same lora_A
        assert likeness([one, shared_A]).replicated_rank == 0.0
        assert energy(singular_values(*one), 0.9) > R // 2
        assert abs(agreement(one, two)) < 0.05


def test_planted_signal_replicates():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((32, 300)) / np.sqrt(300)
    B = rng.standard_normal((200, 4)) @ rng.standard_normal((4, 32))
    pair = [Factors(A, B + rng.standard_normal((200, 32)), 2.0) for _ in range(3)]
    assert likeness(pair).replicated_rank == 4.0
    assert 0.7 < agreement(*pair[:2]) < 0.95
    assert subspace_agreement(principal_angles(*pair[:2], 4)) > 0.8
    assert subspace_agreement(principal_angles(*pair[:2], 4, side="in")) > 0.8


def test_an_update_with_itself():
    rng = np.random.default_rng(2)
    pair = Factors(rng.standard_normal((5, 20)), rng.standard_normal((30, 5)), 0.5)
    assert replicated_rank(pair, pair) == 5
    assert agreement(pair, pair) == pytest.approx(1.0, abs=1e-14)
    assert principal_angles(pair, pair, 9) == pytest.approx(np.zeros(5), abs=1e-7)
    opposite = pair._replace(scaling=-0.5)
    assert replicated_rank(pair, opposite) == replicated_rank(opposite, pair) == 0
    assert agreement(pair, opposite) == pytest.approx(-1.0, abs=1e-14)
    assert replicated_rank(opposite, opposite) == 5
    # A replicate below half the size predicts nothing: the components overshoot it.
    assert replicated_rank(pair, pair._replace(scaling=0.26)) == 5
    assert replicated_rank(pair, pair._replace(scaling=0.24)) == 0


def test_zero_updates():
    rng = np.random.default_rng(3)
    pair = Factors(rng.standard_normal((3, 6)), rng.standard_normal((5, 3)))
    for zero in (ZERO, pair._replace(scaling=0.0), Factors(np.zeros((0, 6)), np.zeros((5, 0)))):
        assert replicated_rank(zero, pair) == replicated_rank(pair, zero) == replicated_rank(zero, zero) == 0
        assert agreement(zero, pair) == agreement(pair, zero) == agreement(zero, zero) == 0.0
        assert principal_angles(zero, pair, 2).shape == (0,)
        assert subspace_agreement(principal_angles(pair, zero, 2)) == 0.0


@REPRODUCIBLE
@given(st.integers(1, 15), st.integers(1, 15), st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), seeds)
def test_agreement_and_angles_equal_dense(out, inp, r_1, r_2, k, seed):
    one, two = random_pairs(np.random.default_rng(seed), out, inp, r_1, r_2, common=0.5)
    rho = np.sum(dense(one) * dense(two)) / np.linalg.norm(dense(one)) / np.linalg.norm(dense(two))
    assert agreement(one, two) == pytest.approx(rho, abs=1e-8)
    (U_1, s_1, V_1), (U_2, s_2, V_2) = (np.linalg.svd(dense(pair), full_matrices=False) for pair in (one, two))
    k_1, k_2 = (min(k, np.count_nonzero(s > 1e-10 * s[0])) for s in (s_1, s_2))
    gaps = [(s[: j + 1][j - 1] - (s[j] if j < len(s) else 0)) / s[0] for s, j in ((s_1, k_1), (s_2, k_2))]
    if min(gaps) < 1e-3:
        return  # the leading subspace is not well defined
    for side, spans in (("out", (U_1[:, :k_1], U_2[:, :k_2])), ("in", (V_1[:k_1].T, V_2[:k_2].T))):
        angles = principal_angles(one, two, k, side=side)
        assert angles.shape == (min(k_1, k_2),)
        np.testing.assert_allclose(angles, np.sort(subspace_angles(*spans)), atol=1e-6)
        phi = np.linalg.norm(spans[0].T @ spans[1]) ** 2 / min(k_1, k_2)
        assert subspace_agreement(angles) == pytest.approx(phi, abs=1e-8)


@REPRODUCIBLE
@given(st.sampled_from([2.0**-500, 2.0**-100, 2.0**100, 2.0**500]), st.integers(-400, 400), seeds)
def test_gauge_and_scale_change_nothing(scale, shift, seed):
    rng = np.random.default_rng(seed)
    one, two = random_pairs(rng, 12, 9, 3, 2, common=0.8)
    M = rng.standard_normal((3, 3)) + 3 * np.eye(3)
    moved = Factors(np.linalg.solve(M, one.lora_A) * 2.0**-shift, one.lora_B @ M * 2.0**shift, one.scaling)
    both = [pair._replace(lora_A=pair.lora_A * scale, lora_B=pair.lora_B * scale) for pair in (moved, two)]
    assert replicated_rank(moved, two) == replicated_rank(*both) == replicated_rank(one, two)
    assert replicated_rank(two, moved) == replicated_rank(*both[::-1]) == replicated_rank(two, one)
    for measure in (agreement, lambda *pairs: subspace_agreement(principal_angles(*pairs, 2))):
        assert measure(moved, two) == pytest.approx(measure(one, two), abs=1e-8)
        assert measure(*both) == pytest.approx(measure(one, two), abs=1e-8)


def test_very_different_scales_do_not_overflow():
    big, small = (
        Factors(np.full((1, 2), 1e150), np.full((3, 1), 1e150)),
        Factors(np.full((1, 2), 1e-150), np.ones((3, 1))),
    )
    assert (replicated_rank(big, small), replicated_rank(small, big)) == (0, 1)
    assert agreement(big, small) == pytest.approx(1.0)


def test_random_subspaces_agree_by_chance_only():
    rng = np.random.default_rng(4)
    pairs = [Factors(rng.standard_normal((8, 400)), rng.standard_normal((100, 8))) for _ in range(2)]
    assert subspace_agreement(principal_angles(*pairs, 8)) == pytest.approx(8 / 100, abs=0.04)
    assert subspace_agreement(principal_angles(*pairs, 8, side="in")) == pytest.approx(8 / 400, abs=0.02)


def test_bad_input_is_said():
    pair = Factors(np.ones((1, 6)), np.ones((5, 1)))
    with pytest.raises(AdapterError, match="same module"):
        replicated_rank(pair, Factors(np.ones((1, 5)), np.ones((5, 1))))
    with pytest.raises(NumericsError, match="lora_B"):
        agreement(pair, Factors(np.ones((1, 6)), np.full((5, 1), np.nan)))
    with pytest.raises(NumericsError, match="scaling"):
        replicated_rank(pair._replace(scaling=float("inf")), pair)
    with pytest.raises(OptionError, match="replicates: are 1"):
        likeness([pair])
    with pytest.raises(OptionError, match="k: is 0"):
        principal_angles(pair, pair, 0)
    with pytest.raises(OptionError, match="side"):
        principal_angles(pair, pair, 1, side="left")
