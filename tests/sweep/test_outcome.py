"""From points to the answer: planted losses, seeds, intervals, overfitting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.errors import NumericsError
from lorarank.estimate.constants import LOSS_SHARE, SEED_SPREAD
from lorarank.sweep.outcome import Trained, best_rates, outcome

COUNTS = (10,) * 40
BASE_LOSS, BEST = 3.0, 2.0  # a gain of one nat
DOCUMENTS = np.random.default_rng(0).normal(0.0, 0.5, len(COUNTS))  # hard and easy documents, the same for every point
DOCUMENTS -= DOCUMENTS.mean()


def sums(loss: float, noise: float = 0.0, seed: int = 0) -> tuple[float, ...]:
    own = np.random.default_rng(seed).normal(0.0, noise, len(COUNTS)) if noise else np.zeros(len(COUNTS))
    return tuple((10 * (loss + DOCUMENTS + own - own.mean())).tolist())


def trained(
    rank: int, excess: float, *, rate: float = 1e-3, seed: int = 0, noise: float = 0.0, train: float | None = None
) -> Trained:
    train = BEST + excess if train is None else train
    return Trained(rank, rate, seed, sums(BEST + excess, noise, 100 * rank + seed), train, 60.0)


SEEN = {1: (0,), 2: (0, 1, 2), 4: (0, 1, 2), 8: (0, 1, 2), 16: (0,), 32: (0, 1, 2)}
"""The seeds that a search with three gives: the ranks around the answer and the best have all, the others the first."""


def swept(ranks: dict[int, float], seeds: tuple[float, ...], error: Callable[[], float] = lambda: 0.0) -> list[Trained]:
    """Points whose loss is the rank's plus the seed's plus an error of their own."""
    return [trained(r, ranks[r] + seeds[seed] + error(), seed=seed) for r, seen in SEEN.items() for seed in seen]


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
    documents = math.sqrt(max(0.0, one.excess.se**2 - 2 * SEED_SPREAD**2))
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
    freedom = 8 - 4 - 2 + 1
    assert wild.seed_spread == pytest.approx(math.sqrt(4 * 0.005**2 / freedom), rel=1e-6)
    assert wild.ranks[2].seeds == pytest.approx((2.001, 2.011))


def test_what_a_seed_does_to_all_ranks_is_no_difference_between_them():
    """The first seed is a bad one: a rank that has no other looks worse by its mean, and is not."""
    excesses = {1: 0.3, 2: 0.1, 4: 0.02, 8: 0.004, 16: 0.0, 32: 0.001}
    found = answer_of(swept(excesses, (0.03, -0.01, -0.02)))
    assert (found.best, found.r_sufficient, found.low, found.high) == (16, 8, 8, 8)
    assert [one.excess.mean for one in found.ranks] == pytest.approx(list(excesses.values()), abs=1e-9)
    assert [one.loss.mean for one in found.ranks] == pytest.approx([BEST + e for e in excesses.values()])
    assert found.seed_spread == pytest.approx(0.0, abs=1e-9)
    assert found.measured_spread
    assert found.ranks[4].seeds == pytest.approx((BEST + 0.03,))  # as measured


def test_the_interval_of_an_excess_holds_the_planted_one_in_95_of_100():
    """Errors of 0.004 of the gain, seeds that move all ranks by 0.02: half of the ranks have one seed alone."""
    draw = np.random.default_rng(1)
    excesses = {1: 0.3, 2: 0.1, 4: 0.05, 8: 0.02, 16: 0.04, 32: 0.0}
    inside, spreads = [], []
    for _ in range(300):
        seeds = tuple(draw.normal(0.0, 0.02, 3))
        found = answer_of(swept(excesses, seeds, lambda: float(draw.normal(0.0, 0.004))))
        assert found.best == 32
        inside += [one.excess_low <= excesses[one.rank] <= one.excess_high for one in found.ranks[:-1]]
        spreads.append((found.seed_spread * found.gain.mean) ** 2)
    assert 0.93 < np.mean(inside) < 0.97
    assert math.sqrt(float(np.mean(spreads))) == pytest.approx(0.004, rel=0.05)


def test_documents_are_combined_as_the_losses_are():
    """Where seeds add up by document, the adjusted ranks differ by document in nothing but the ranks' difference."""
    own = {seed: np.random.default_rng(seed).normal(0.0, 0.3, len(COUNTS)) for seed in range(3)}
    points = [
        Trained(r, 1e-3, seed, tuple(10 * (BEST + 0.1 / r + DOCUMENTS + own[seed])), BEST, 60.0)
        for r, seen in SEEN.items()
        for seed in seen
    ]
    found = answer_of(points)
    assert [one.excess.se for one in found.ranks] == pytest.approx([0.0] * 6, abs=1e-9)
    assert [one.excess.mean for one in found.ranks] == pytest.approx([0.1 / r - 0.1 / 32 for r in SEEN])


def test_a_second_seed_at_one_rank_alone_tells_no_spread():
    """It tells what that seed does, and nothing of how points scatter around that."""
    found = answer_of([trained(1, 0.05), trained(2, 0.0), trained(2, 0.03, seed=1)])
    assert (found.measured_spread, found.seed_spread) == (False, pytest.approx(SEED_SPREAD))
    assert found.ranks[0].excess.mean == pytest.approx(0.05)


def test_one_seed_gets_the_assumed_spread():
    found = answer_of([trained(1, 0.008), trained(2, 0.0)])
    assert (found.seed_spread, found.measured_spread) == (pytest.approx(SEED_SPREAD), False)
    assert (found.low, found.r_sufficient, found.high) == (1, 1, 2)
    assert found.flat is False or found.ranks[0].excess.mean <= 1.96 * found.ranks[0].excess.se


def test_overfitting_starts_where_held_out_loss_rises_while_training_loss_falls():
    excesses = {1: 0.1, 2: 0.0, 4: 0.004, 8: 0.05, 16: 0.06}
    fitted = answer_of([trained(r, e, train=BEST - 0.1 * r) for r, e in excesses.items()])
    assert (fitted.best, fitted.worse_from, fitted.overfits_from) == (2, 8, 8)
    unlearned = answer_of([trained(r, e, train=BEST + e) for r, e in excesses.items()])
    assert (unlearned.best, unlearned.worse_from, unlearned.overfits_from) == (2, 8, None)
    falling = answer_of([trained(r, e) for r, e in ((1, 0.1), (2, 0.01), (4, 0.0))])
    assert (falling.worse_from, falling.overfits_from) == (None, None)


def test_training_losses_are_without_what_a_seed_does_to_all_ranks_too():
    """The second seed's rows are easy, and the highest rank has not seen them."""
    points = [trained(1, 0.2, train=1.8), trained(2, 0.0, train=1.5), trained(4, 0.3, train=1.4)]
    points += [trained(1, 0.2, seed=1, train=0.8), trained(2, 0.0, seed=1, train=0.5)]
    points += [trained(8, 0.2, train=1.6), trained(8, 0.2, seed=1, train=0.6)]
    found = answer_of(points)
    assert [one.train_loss for one in found.ranks] == pytest.approx([1.3, 1.0, 0.9, 1.1])
    assert (found.worse_from, found.overfits_from) == (4, 4)
    points[2] = trained(4, 0.3, train=math.nan)
    assert answer_of(points).overfits_from is None


def test_an_answer_at_the_end_of_the_ranks_is_censored():
    assert answer_of([trained(r, e) for r, e in ((1, 0.1), (2, 0.05), (4, 0.0))]).censored
    assert not answer_of([trained(r, e) for r, e in ((1, 0.1), (2, 0.0), (4, 0.02))]).censored


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


def test_a_rate_is_judged_by_all_its_seeds_and_not_beside_one_that_has_fewer():
    points = [
        *(trained(1, excess, seed=seed, rate=1e-3) for seed, excess in enumerate((0.1, 0.3, 0.3))),
        *(trained(1, excess, seed=seed, rate=3e-3) for seed, excess in enumerate((0.15, 0.2, 0.2))),
        trained(1, 0.0, rate=1e-2),
        trained(2, 0.0, rate=1e-3),
    ]
    assert best_rates(points, COUNTS)[1][0].learning_rate == 3e-3


def test_a_diverged_rate_is_never_the_best():
    nothing = Trained(1, 1e-1, 0, (math.nan,) * len(COUNTS), math.nan, 60.0)
    found = answer_of([nothing, trained(1, 0.1), trained(2, 0.0)])
    assert found.ranks[0].learning_rate == 1e-3


def diverged(rank: int, seed: int = 0, loss: float = math.nan) -> Trained:
    return Trained(rank, 1e-3, seed, (loss,) * len(COUNTS), math.nan, 60.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_rank_that_diverged_touches_no_other(loss):
    points = [trained(r, e, noise=0.001) for r, e in ((1, 0.1), (2, 0.0), (8, 0.005))]
    without, found = answer_of(points), answer_of([*points, diverged(4, loss=loss), diverged(16, loss=loss)])
    assert (found.best, found.r_sufficient, found.low, found.high) == (2, 2, 2, 2)
    assert found.diverged == (4, 16)
    assert tuple(one for one in found.ranks if not one.diverged) == without.ranks
    assert (found.gain, found.seed_spread, found.flat, found.censored) == (
        without.gain,
        without.seed_spread,
        False,
        False,
    )
    assert all(math.isnan(n) for one in found.ranks if one.diverged for n in (one.loss.mean, one.excess.se, one.share))


def test_a_rank_one_seed_of_which_diverged_does_not_suffice():
    points = [trained(r, e, seed=s) for r, e in ((1, 0.1), (2, 0.0), (4, 0.001), (8, 0.002)) for s in (0, 1)]
    points[3] = diverged(2, seed=1)
    found = answer_of(points)
    assert (found.diverged, found.best, found.r_sufficient) == ((2,), 4, 4)
    assert found.seed_spread == pytest.approx(0.0, abs=1e-9)
    assert math.isfinite(found.ranks[1].seeds[0])


def test_the_highest_rank_that_did_not_diverge_is_no_peak():
    assert answer_of([trained(1, 0.1), trained(2, 0.0), diverged(4)]).censored


def test_where_all_diverge_there_is_no_answer():
    with pytest.raises(NumericsError, match=r"no finite number at any rank.*--lrs"):
        answer_of([diverged(1), diverged(2)])


def test_one_document_shows_no_error():
    points = [Trained(r, 1e-3, 0, (loss,), 1.0, 9.0) for r, loss in ((1, 1.2), (2, 1.005), (4, 1.0))]
    found = outcome((2.0,), (1,), points, 100)
    assert (found.best, found.r_sufficient) == (4, 2)
    assert (found.low, found.high) == (1, 4)  # nothing can be left out
    assert not found.learned
    assert not found.flat


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
