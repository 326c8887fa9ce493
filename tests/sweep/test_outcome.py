"""From points to the answer: planted losses, seeds, intervals, overfitting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.sweep.outcome import ASSUMED_SPREAD, LOSS_SHARE, Trained, best_rates, outcome

COUNTS = (10,) * 40
BASE_LOSS, BEST = 3.0, 2.0  # a gain of one nat
DOCUMENTS = np.random.default_rng(0).normal(0.0, 0.5, len(COUNTS))  # hard and easy documents, the same for every point
DOCUMENTS -= DOCUMENTS.mean()


def sums(loss: float, noise: float = 0.0, seed: int = 0) -> tuple[float, ...]:
    own = np.random.default_rng(seed).normal(0.0, noise, len(COUNTS)) if noise else np.zeros(len(COUNTS))
    return tuple((10 * (loss + DOCUMENTS + own - own.mean())).tolist())


def trained(rank: int, excess: float, *, rate: float = 1e-3, seed: int = 0, noise: float = 0.0) -> Trained:
    return Trained(rank, rate, seed, sums(BEST + excess, noise, 100 * rank + seed), BEST + excess, 60.0)


def answer_of(points: list[Trained]):
    return outcome(sums(BASE_LOSS), COUNTS, points, 100)


@pytest.mark.parametrize(
    ("excesses", "sufficient", "best"),
    [
        ({1: 0.2, 2: 0.05, 4: 0.009, 8: 0.0}, 4, 8),
        ({1: 0.2, 2: 0.05, 4: 0.011, 8: 0.0}, 8, 8),
        ({1: 0.0, 2: 0.05, 4: 0.06, 8: 0.07}, 1, 1),
        ({1: 0.005, 2: 0.02, 4: 0.0, 8: 0.03}, 1, 4),
    ],
)
def test_the_smallest_rank_within_a_hundredth_of_the_gain(excesses, sufficient, best):
    found = answer_of([trained(rank, excess) for rank, excess in excesses.items()])
    assert (found.r_sufficient, found.best) == (sufficient, best)
    assert found.gain.mean == pytest.approx(1.0)
    assert [one.share for one in found.ranks] == pytest.approx([1 - excess for excess in excesses.values()])
    assert [one.parameters for one in found.ranks] == [100 * rank for rank in excesses]


def test_differences_are_paired_by_document():
    """Documents differ by half a nat, points by a thousandth: the standard error knows only the latter."""
    found = answer_of([trained(1, 0.05, noise=0.001), trained(2, 0.0, noise=0.001)])
    one = found.ranks[0]
    assert one.loss.se > 0.05
    documents = math.sqrt(max(0.0, one.excess.se**2 - 2 * ASSUMED_SPREAD**2))
    assert documents < 0.001


def test_the_spread_between_seeds_is_in_the_interval():
    excesses = {1: (0.10, 0.10), 2: (0.015, 0.015), 4: (0.006, 0.006), 8: (0.0, 0.0)}
    calm = answer_of([trained(r, e, seed=s) for r, pair in excesses.items() for s, e in enumerate(pair)])
    assert (calm.low, calm.r_sufficient, calm.high, calm.measured_spread) == (4, 4, 4, True)
    assert calm.seed_spread == pytest.approx(0.0, abs=1e-9)
    excesses |= {4: (0.001, 0.011), 8: (0.005, -0.005)}
    wild = answer_of([trained(r, e, seed=s) for r, pair in excesses.items() for s, e in enumerate(pair)])
    assert wild.r_sufficient == 4
    assert (wild.low, wild.high) == (2, 8)
    assert wild.seed_spread == pytest.approx(math.sqrt((0.005**2 * 2 * 2) / 4), rel=1e-6)
    assert wild.ranks[2].seeds == pytest.approx((2.001, 2.011))


def test_one_seed_gets_the_assumed_spread():
    found = answer_of([trained(1, 0.008), trained(2, 0.0)])
    assert (found.seed_spread, found.measured_spread) == (pytest.approx(ASSUMED_SPREAD), False)
    assert (found.low, found.r_sufficient, found.high) == (1, 1, 2)
    assert found.flat is False or found.ranks[0].excess.mean <= 1.96 * found.ranks[0].excess.se


def test_overfitting_starts_where_the_loss_surely_rises():
    found = answer_of([trained(r, e) for r, e in ((1, 0.1), (2, 0.0), (4, 0.004), (8, 0.05), (16, 0.06))])
    assert (found.best, found.overfits_from) == (2, 8)
    assert answer_of([trained(r, e) for r, e in ((1, 0.1), (2, 0.01), (4, 0.0))]).overfits_from is None


def test_a_flat_curve_is_called_flat():
    assert answer_of([trained(r, e) for r, e in ((1, 0.002), (2, 0.0), (4, 0.003))]).flat
    assert not answer_of([trained(r, e) for r, e in ((1, 0.2), (2, 0.0), (4, 0.003))]).flat


def test_every_rank_is_shown_at_its_best_rate():
    points = [
        trained(1, 0.3, rate=1e-3),
        trained(1, 0.1, rate=3e-3),
        trained(2, 0.0, rate=1e-3),
        trained(2, 0.2, rate=3e-3),
    ]
    assert {rank: group[0].learning_rate for rank, group in best_rates(points, COUNTS).items()} == {1: 3e-3, 2: 1e-3}
    assert [one.learning_rate for one in answer_of(points).ranks] == [3e-3, 1e-3]


def test_a_diverged_rate_is_never_the_best():
    nothing = Trained(1, 1e-1, 0, (math.nan,) * len(COUNTS), math.nan, 60.0)
    found = answer_of([nothing, trained(1, 0.1), trained(2, 0.0)])
    assert found.ranks[0].learning_rate == 1e-3


def test_no_gain_at_all():
    found = outcome(sums(BEST), COUNTS, [trained(1, 0.5), trained(2, 0.4)], 100)
    assert found.gain.mean < 0
    assert all(math.isnan(one.share) for one in found.ranks)
    assert found.r_sufficient == found.best == 2


@given(st.lists(st.floats(0.0, 0.5), min_size=2, max_size=7))
def test_the_interval_holds_the_answer_and_the_answer_suffices(excesses):
    points = [trained(2**index, excess) for index, excess in enumerate(excesses)]
    found = answer_of(points)
    assert found.low <= found.r_sufficient <= found.high <= found.ranks[-1].rank
    at = {one.rank: one for one in found.ranks}
    assert at[found.r_sufficient].excess.mean <= LOSS_SHARE * found.gain.mean + 1e-12
    assert all(at[r].excess.mean > LOSS_SHARE * found.gain.mean for r in at if r < found.r_sufficient)
