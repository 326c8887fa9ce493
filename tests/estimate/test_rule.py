"""The plain rule: energy rank by module, energy-weighted median, ladder; and the pooled rank beside it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.errors import OptionError
from lorarank.estimate import rule
from lorarank.estimate.options import EstimateOptions
from lorarank.numerics import pooling
from lorarank.numerics.ladder import LADDER, octaves, round_up

SPECTRA = st.lists(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12).map(lambda v: np.sort(np.array(v))[::-1]),
    min_size=1,
    max_size=8,
)
SHARES = st.floats(0.05, 0.999)


def test_energy_is_a_share_of_squares_not_of_values() -> None:
    values = np.array([3.0, 1.0, 1.0])  # σ: 60 % in the first; σ²: 82 %
    assert rule.module_ranks([values], 0.8) == (1,)


def test_the_median_goes_by_energy_and_ignores_how_many_modules_are_weak() -> None:
    strong, weak = np.array([100.0, 100.0, 100.0]), np.array([1.0])
    assert rule.median_rank([strong, *[weak] * 50], 0.9) == 3
    assert rule.answer([strong, *[weak] * 50], 0.9) == 4


@pytest.mark.parametrize(("rank", "on_ladder"), [(0, 1), (1, 1), (2, 2), (3, 4), (9, 16), (256, 256), (257, 256)])
def test_the_ladder_is_rounded_up_to(rank: float, on_ladder: int) -> None:
    assert round_up(rank) == on_ladder


def test_neighbours_on_the_ladder_are_an_octave_apart() -> None:
    assert {octaves(a, b) for a, b in pairwise(LADDER)} == {1.0}


@given(SPECTRA, SHARES)
def test_the_pooled_rank_is_the_smallest_that_keeps_the_share(spectra: list[np.ndarray], share: float) -> None:
    r = pooling.pooled_rank(spectra, share)
    total = sum(float(np.square(values).sum()) for values in spectra)

    def kept(rank: int) -> float:
        return sum(float(np.square(values[:rank]).sum()) for values in spectra) / total

    assert kept(r) >= share - 1e-12
    assert r == 1 or kept(r - 1) < share + 1e-12
    assert pooling.share_kept(spectra, r) == pytest.approx(kept(r))


@given(SPECTRA, SHARES, SHARES)
def test_more_energy_never_takes_fewer_directions(spectra: list[np.ndarray], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert rule.answer(spectra, low) <= rule.answer(spectra, high)
    assert pooling.pooled_rank(spectra, low) <= pooling.pooled_rank(spectra, high)
    assert rule.mean_rank(spectra, low) <= rule.mean_rank(spectra, high) + 1e-9


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1e6, 1e150])
def test_nothing_depends_on_the_scale(scale: float) -> None:
    spectra = [np.array([4.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.5])]
    scaled = [values * scale for values in spectra]
    assert rule.median_rank(scaled, 0.9) == rule.median_rank(spectra, 0.9)
    assert pooling.pooled_rank(scaled, 0.9) == pooling.pooled_rank(spectra, 0.9)
    assert pooling.energies(scaled) == pytest.approx(pooling.energies(spectra))


def test_a_zero_update_has_rank_0_and_no_energy() -> None:
    zero = [np.zeros(4), np.zeros(2)]
    assert (rule.median_rank(zero, 0.9), pooling.pooled_rank(zero, 0.9), pooling.share_kept(zero, 1)) == (0, 0, 0)


def test_the_bracket_lies_around_the_share_and_within_0_and_1() -> None:
    assert rule.bracket(0.9) == pytest.approx((0.85, 0.95))
    for share in (0.01, 0.06, 0.5, 1.0):
        low, high = rule.bracket(share)
        assert 0 < low <= share <= high <= 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"energy": 90.0}, "give 0.9"),
        ({"energy": 0.0}, "share"),
        ({"energy": float("nan")}, "share"),
        ({"metric": "l2"}, "weight, activation, loss"),
        ({"task": "poetry"}, "style, domain"),
        ({"budget": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_work_say_what_to_do(given: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match="--") as error:
        EstimateOptions(**given)  # type: ignore[arg-type]
    assert says.lower() in str(error.value).lower()
