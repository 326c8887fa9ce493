"""Real-valued dimensions of a spectrum."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorarank.errors import OptionError
from lorarank.numerics import measures

EVERY = [
    measures.stable_rank,
    measures.participation_ratio,
    measures.energy_entropy_rank,
    measures.effective_rank,
]
spectra = st.lists(st.floats(0, 1e3), min_size=1, max_size=20)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(spectra)
def test_order_bounds_and_scale(sv):
    values = [measure(sv) for measure in EVERY]
    if not any(sv):
        assert values == [0.0] * 4
        return
    assert values[0] >= 1 - 1e-12
    assert values[-1] <= np.count_nonzero(sv) * (1 + 1e-12)
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(values))
    scaled = [measure(np.array([v for v in sv if v >= 1e-3]) * 1e-300) for measure in EVERY]
    same = [measure([v for v in sv if v >= 1e-3]) for measure in EVERY]
    np.testing.assert_allclose(scaled, same, rtol=1e-10)


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(
    st.integers(0, 9).flatmap(
        lambda n: st.lists(st.lists(st.floats(0, 1e3), min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
def test_many_at_once_are_each_as_it_is_alone(rows):
    many = np.array(rows).reshape(len(rows), -1)
    plurals = [
        measures.stable_ranks,
        measures.participation_ratios,
        measures.energy_entropy_ranks,
        measures.effective_ranks,
    ]
    for measure, plural in zip(EVERY, plurals, strict=True):
        assert plural(many).tolist() == [measure(row) for row in rows]


def test_by_hand():
    sv = [2.0, 1.0]
    assert measures.stable_rank(sv) == 1.25
    assert measures.participation_ratio(sv) == pytest.approx(25 / 17)
    assert measures.energy_entropy_rank(sv) == pytest.approx(np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2)))
    assert measures.effective_rank(sv) == pytest.approx(np.exp(-2 / 3 * np.log(2 / 3) - 1 / 3 * np.log(1 / 3)))


@pytest.mark.parametrize(("R", "m", "n"), [(16, 300, 200), (64, 128, 512), (64, 64, 64)])
def test_a_gaussian_product_participates_as_its_null_says(R, m, n):
    rng = np.random.default_rng(0)
    found = [
        measures.participation_ratio(
            np.linalg.svd(rng.standard_normal((m, R)) @ rng.standard_normal((R, n)), compute_uv=False)
        )
        for _ in range(10)
    ]
    assert np.mean(found) == pytest.approx(measures.gaussian_product_participation(R, m, n), rel=0.03)


def test_the_null_needs_dimensions():
    with pytest.raises(OptionError, match="positive dimensions"):
        measures.gaussian_product_participation(0, 3, 3)
