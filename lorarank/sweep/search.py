"""Which points a sweep trains: the learning rate at both ends, all ranks, more seeds around the answer (floor 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorarank.probe.grid import bracket, notch_of, rate_of
from lorarank.sweep.options import SweepOptions
from lorarank.sweep.outcome import Outcome, close_rates, outcome
from lorarank.sweep.points import Points, Spot

MOST_TRIALS = 5
"""Learning rates tried at either end: the start, its neighbours, and two further steps."""

AROUND = 1
"""Ranks on either side of the answer, and of the best, that get more seeds."""


@dataclass(frozen=True)
class Tuning:
    """The search for a learning rate.

    ``low_rank`` and ``high_rank`` are the ends it was made at, ``low_rate`` and ``high_rate`` the best rates there.
    ``moves`` is by how many notches of half a decade they differ; every rank is trained at both and all between.
    ``at_edge`` says whether one of them is the last that was tried.
    """

    low_rank: int
    high_rank: int
    low_rate: float
    high_rate: float
    moves: int
    at_edge: bool

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates that every rank is trained at, ascending.

        >>> Tuning(1, 64, 1e-2, 1e-3, 2, False).rates
        (0.001, 0.00316, 0.01)
        """
        ends = sorted((notch_of(self.low_rate), notch_of(self.high_rate)))
        return tuple(rate_of(notch) for notch in range(ends[0], ends[1] + 1))


def tune(points: Points, ranks: Sequence[int], seed: int) -> tuple[Tuning, tuple[float, ...]]:
    """The best learning rates at the lowest and the highest rank, and the rates to train all ranks at."""
    ends = (ranks[0], ranks[-1])
    points.measure([Spot(rank, rate_of(notch), seed) for rank in ends for notch in (0, 1, -1)])
    best, edges = [], []
    for rank in ends:
        tried: dict[int, float] = {}

        def judge(notch: int, rank: int = rank, tried: dict[int, float] = tried) -> float:
            tried[notch] = points.loss(Spot(rank, rate_of(notch), seed))
            return tried[notch]

        best.append(bracket(judge, MOST_TRIALS))
        edges.append(best[-1] in (min(tried), max(tried)))
    tuning = Tuning(*ends, rate_of(best[0]), rate_of(best[1]), abs(best[1] - best[0]), any(edges))
    return tuning, tuning.rates


def search(points: Points, options: SweepOptions, parameters_per_rank: int) -> tuple[Outcome, Tuning | None]:
    """Train all points and answer. Every rank is judged at the same learning rates, those the search ended with."""
    base = points.base()
    tuning, rates = (None, options.lrs) if options.lrs is not None else tune(points, options.ladder, options.seed)
    points.measure([Spot(rank, rate, options.seed) for rank in options.ladder for rate in rates])

    more = range(options.seed + 1, options.seed + options.seeds)
    while True:  # with more seeds the answer can move; then the ranks around the new one get theirs too
        spots = [spot for spot in points.found if spot.rank in options.ladder and spot.learning_rate in rates]
        trained = points.measure(spots)
        found = outcome(base.sums, base.counts, trained, parameters_per_rank, allowed=options.keep_loss)
        close = close_rates(trained, base.counts, found.gain.mean)
        ranks = around(found, options.ladder)
        wanted = [Spot(rank, rate, seed) for seed in more for rank in ranks for rate in close[rank]]
        if all(spot in points.found for spot in wanted):
            return found, tuning
        points.measure(wanted)


def around(found: Outcome, ranks: Sequence[int]) -> tuple[int, ...]:
    """The ranks whose order decides: the answer, the best, and the neighbours of both.

    The answer is measured against the best, and among ranks of one seed each the luckiest passes for that.

    >>> from lorarank.runs import Loss
    >>> zero = Loss(0.0, 0.0)
    >>> around(Outcome(zero, zero, (), 32, 2, 2, 2, None, 0.0, False, False), (1, 2, 4, 8, 16, 32))
    (1, 2, 4, 16, 32)
    """
    positions = (ranks.index(found.r_sufficient), ranks.index(found.best))
    return tuple(sorted({rank for at in positions for rank in ranks[max(0, at - AROUND) : at + AROUND + 1]}))
