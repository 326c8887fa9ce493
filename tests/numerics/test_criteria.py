"""Criteria: counts with known truth, monotone thresholds, scale invariance, and planted signal in white noise."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from lorarank.errors import NumericsError, OptionError
from lorarank.numerics import criteria
from lorarank.numerics.linalg import singular_values

REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=200)
spectra = st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=20)
SHAPE = (400, 300)
EVERY = {
    "energy": lambda sv: criteria.energy(sv, 0.9),
    "numerical": lambda sv: criteria.numerical(sv, SHAPE),
    "gavish_donoho": lambda sv: criteria.gavish_donoho(sv, SHAPE),
    "gavish_donoho, known noise": lambda sv: criteria.gavish_donoho(sv, SHAPE, noise=0.0),
    "marchenko_pastur": lambda sv: criteria.marchenko_pastur(sv, SHAPE),
    "marchenko_pastur, known noise": lambda sv: criteria.marchenko_pastur(sv, SHAPE, noise=0.0),
}
every = pytest.mark.parametrize("criterion", EVERY.values(), ids=EVERY)


@every
def test_zero_and_empty_spectra_have_rank_zero(criterion):
    for zero in ([], [0.0], np.zeros(7)):
        assert criterion(zero) == 0


@every
@settings(REPRODUCIBLE, max_examples=50)
@given(spectra, st.randoms(use_true_random=False))
def test_counts_are_ints_in_range_free_of_scale_and_order(criterion, sv, random):
    count = criterion(sv)
    assert type(count) is int
    assert 0 <= count <= np.count_nonzero(sv)
    shuffled = random.sample(sv, len(sv))
    for scale in (2.0**-900, 2.0**900, 1.0):
        assert criterion(np.array(shuffled) * scale) == count


@REPRODUCIBLE
@given(
    st.integers(0, 9).flatmap(
        lambda n: st.lists(st.lists(st.floats(0, 1e3), min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
def test_many_at_once_are_each_as_it_is_alone(rows):
    many, shapes = np.array(rows).reshape(len(rows), -1), [(9 + index, 12) for index in range(len(rows))]
    assert criteria.energies(many, 0.9).tolist() == [criteria.energy(row, 0.9) for row in rows]
    for plural, criterion in (
        (criteria.numericals, criteria.numerical),
        (criteria.gavish_donohos, criteria.gavish_donoho),
        (criteria.marchenko_pasturs, criteria.marchenko_pastur),
    ):
        alone = [criterion(row, shape) for row, shape in zip(rows, shapes, strict=True)]
        assert plural(many, shapes).tolist() == alone


@every
@pytest.mark.parametrize("bad", [[1.0, np.nan], [np.inf], [-1.0], [[1.0]]])
def test_bad_spectra_are_refused(criterion, bad):
    with pytest.raises(NumericsError, match="singular values"):
        criterion(bad)


@REPRODUCIBLE
@given(spectra, st.integers(1, 100))
def test_energy_is_the_exact_answer_in_rationals(sv, percent):
    squares = sorted((Fraction(int(v)) ** 2 for v in sv), reverse=True)
    wanted = Fraction(percent, 100) * sum(squares)
    exact = next(k for k in range(len(sv) + 1) if sum(squares[:k]) >= wanted)
    assert criteria.energy(sv, percent / 100) == exact


@REPRODUCIBLE
@given(spectra, st.floats(0.001, 1), st.floats(0.001, 1))
def test_energy_is_monotone_in_the_share(sv, one, two):
    low, high = sorted((one, two))
    assert criteria.energy(sv, low) <= criteria.energy(sv, high)


def test_energy_of_all():
    assert criteria.energy([3.0, 2.0, 1.0, 0.0], 1.0) == 3
    assert criteria.energy([3.0, 2.0, 1.0, 0.0], 1) == 3  # 1 and 1.0 do not differ
    assert criteria.energy([1.0, 1e-6, 1e-16], 1.0) == 2  # rounding is not kept
    assert criteria.energy([1.0, 1e-6], 1 - 1e-11) == 1


@pytest.mark.parametrize("share", [0.0, -0.1, 1.0001, float("nan"), 90, True])
def test_energy_refuses_what_is_no_share(share):
    with pytest.raises(OptionError, match="energy"):
        criteria.energy([1.0], share)


def test_numerical_threshold_is_strict_and_follows_the_shape():
    eps = np.finfo(float).eps
    assert criteria.numerical([1.0, 100 * eps], (100, 10)) == 1
    assert criteria.numerical([1.0, 101 * eps], (100, 10)) == 2
    assert criteria.numerical([1.0, 101 * eps], (10, 200)) == 1


# White noise.


@pytest.mark.parametrize("beta", [1e-4, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_the_median_of_the_marchenko_pastur_law_halves_its_mass(beta):
    a, b = (1 - np.sqrt(beta)) ** 2, (1 + np.sqrt(beta)) ** 2
    mass, _ = quad(
        lambda t: np.sqrt((b - t) * (t - a)) / (2 * np.pi * beta * t), criteria._marchenko_pastur_median(beta), b
    )
    assert mass == pytest.approx(0.5, abs=1e-7)


@pytest.mark.parametrize("beta", [0.05, 0.25, 0.5, 0.75, 1.0])
def test_optimal_thresholds_are_the_published_ones(beta):
    known = criteria._optimal_threshold(beta)
    unknown = known / np.sqrt(criteria._marchenko_pastur_median(beta))
    if beta == 1.0:
        assert known == pytest.approx(4 / np.sqrt(3))
        assert unknown == pytest.approx(2.858, abs=1e-3)
    # the paper's own cubic approximation, good to about 0.02
    assert unknown == pytest.approx(0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43, abs=0.03)


@pytest.mark.parametrize("shape", [(300, 300), (400, 120), (120, 400)])
@pytest.mark.parametrize("rank", [0, 1, 5, 12])
def test_planted_rank_in_white_noise_is_recovered_from_a_full_spectrum(shape, rank):
    rng = np.random.default_rng(rank)
    m, n = shape
    noise = 0.01
    signal = 6 * noise * (np.sqrt(m) + np.sqrt(n)) / 2 / np.sqrt(m * n)  # each planted σ about three bulk edges
    Y = signal * rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) + noise * rng.standard_normal(shape)
    sv = np.linalg.svd(Y, compute_uv=False)
    assert criteria.gavish_donoho(sv, shape) == rank
    assert criteria.gavish_donoho(sv, shape, noise=noise) == rank
    assert criteria.gavish_donoho(sv[: rank + 20], shape, noise=noise) == rank  # a known level needs no full spectrum
    assert rank <= criteria.marchenko_pastur(sv, shape) <= rank + 1  # the edge itself is passed now and then
    assert rank <= criteria.marchenko_pastur(sv, shape, noise=noise) <= rank + 1


@pytest.mark.parametrize("shape", [(500, 800), (1200, 300), (300, 1200), (192, 576)])
@pytest.mark.parametrize("r", [16, 64])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_planted_rank_in_a_noisy_lora_update_is_recovered_from_its_r_values(shape, r, rank):
    """lora_B = planted + white noise, lora_A Gaussian as at initialisation; only the r values are known."""
    rng = np.random.default_rng(r + rank)
    out, inp = shape
    A = rng.standard_normal((r, inp)) / np.sqrt(inp)
    U, V = (np.linalg.qr(rng.standard_normal((n, rank)))[0] for n in (out, r))
    planted = 2.5 * (np.sqrt(out) + np.sqrt(r)) * U @ V.T
    sv = singular_values(A, planted + rng.standard_normal((out, r)))
    assert criteria.gavish_donoho(sv, shape) == rank
    assert rank <= criteria.marchenko_pastur(sv, shape) <= rank + 2
    assert criteria.energy(sv, 0.9) > r // 3  # which is what the plain rule makes of it


@pytest.mark.parametrize("shape", [(192, 576), (576, 1536), (1536, 576)])
def test_the_noise_edge_of_a_thin_product_is_that_of_the_stated_white_matrix(shape):
    rng = np.random.default_rng(7)
    r, (out, inp) = 64, shape
    beta = r / out + r / inp
    edge = (1 + np.sqrt(beta)) / np.sqrt(criteria._marchenko_pastur_median(beta))
    found = []
    for _ in range(20):
        sv = singular_values(rng.standard_normal((r, inp)), rng.standard_normal((out, r)))
        found.append(sv[0] / np.median(sv))
        assert criteria.gavish_donoho(sv, shape) == 0
        assert criteria.marchenko_pastur(sv, shape) <= 2
    assert np.mean(found) == pytest.approx(edge, rel=0.03)


def test_noise_is_found_below_the_edge_most_of_the_time():
    rng = np.random.default_rng(0)
    counts = [
        criteria.marchenko_pastur(np.linalg.svd(rng.standard_normal((120, 80)), compute_uv=False), (120, 80))
        for _ in range(60)
    ]
    assert max(counts) <= 1
    assert np.mean(counts) < 0.4


@REPRODUCIBLE
@given(spectra, st.floats(0, 100), st.floats(0, 100))
def test_more_noise_never_keeps_more(sv, one, two):
    low, high = sorted((one, two))
    for criterion in (criteria.gavish_donoho, criteria.marchenko_pastur):
        assert criterion(sv, SHAPE, noise=low) >= criterion(sv, SHAPE, noise=high)
    assert criteria.marchenko_pastur(sv, SHAPE, noise=low) >= criteria.gavish_donoho(sv, SHAPE, noise=low)


def test_bad_noise_and_shapes_are_refused():
    for criterion in (criteria.gavish_donoho, criteria.marchenko_pastur):
        for noise in (-1.0, float("nan"), float("inf")):
            with pytest.raises(OptionError, match="noise"):
                criterion([1.0], SHAPE, noise=noise)
        with pytest.raises(OptionError, match="shape"):
            criterion([1.0], (0, 5), noise=1.0)
        with pytest.raises(OptionError, match="at most 2 singular values"):
            criterion([3.0, 2.0, 1.0], (5, 2))
