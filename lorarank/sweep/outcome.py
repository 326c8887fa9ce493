"""What a sweep found: the loss at every rank, the rank that suffices, where overfitting starts (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorarank.numerics.paired import paired_difference, ratio_mean
from lorarank.runs import Loss

LOSS_SHARE = 0.01
"""A rank suffices that loses at most this share of the gain against the best: the definition of ``r_sufficient``."""

ASSUMED_SPREAD = 0.0035
"""Standard deviation between seeds as a share of the gain where a sweep has only one: on the first measured sweeps
(SmolLM2-135M, four tasks) one seed alone moved a point by up to twice this."""

STANDARD_ERRORS = 1.96
"""The interval covers 95 of 100 where the differences are normal."""


@dataclass(frozen=True)
class Trained:
    """One point: a rank trained at a learning rate with a seed; ``sums`` nats per held-out document."""

    rank: int
    learning_rate: float
    seed: int
    sums: tuple[float, ...]
    train_loss: float
    seconds: float


@dataclass(frozen=True)
class RankOutcome:
    """One rank at its best learning rate.

    Attributes
    ----------
    rank, learning_rate : of the points.
    loss : held-out loss, mean over seeds, with its standard error over documents.
    excess : loss beyond the best rank's, paired by document; the standard error has documents and seeds in it.
    share : of the best rank's gain that this rank reaches.
    seeds : held-out loss of every seed.
    train_loss : at the end of training, mean over seeds.
    parameters : trainable ones.
    """

    rank: int
    learning_rate: float
    loss: Loss
    excess: Loss
    share: float
    seeds: tuple[float, ...]
    train_loss: float
    parameters: int


@dataclass(frozen=True)
class Outcome:
    """The sweep's answer.

    Attributes
    ----------
    base : held-out loss of the base model.
    gain : of the best rank over the base, paired by document.
    ranks : ascending.
    best : the rank with the lowest loss.
    r_sufficient : the smallest rank within :data:`LOSS_SHARE` of the gain of the best.
    low, high : the smallest rank that could still be so, and the smallest that surely is, at 95 %.
    overfits_from : the first rank beyond the best that is worse than it for sure; ``None`` where none is.
    seed_spread : standard deviation between seeds as a share of the gain; ``measured_spread`` says whether it was
        measured here or is :data:`ASSUMED_SPREAD`.
    flat : whether no two ranks differ by more than their error, so that the answer is "any".
    """

    base: Loss
    gain: Loss
    ranks: tuple[RankOutcome, ...]
    best: int
    r_sufficient: int
    low: int
    high: int
    overfits_from: int | None
    seed_spread: float
    measured_spread: bool
    flat: bool

    @property
    def learned(self) -> bool:
        """Whether the best rank beats the base model by more than the error of that; where not, no rank suffices."""
        return self.gain.mean > STANDARD_ERRORS * self.gain.se


def outcome(
    base: Sequence[float], counts: Sequence[int], points: Sequence[Trained], parameters_per_rank: int
) -> Outcome:
    """The answer of the points of a sweep.

    Parameters
    ----------
    base : nats per held-out document of the base model.
    counts : target tokens per held-out document.
    points : at least two ranks; of several learning rates at a rank the best is taken, over the seeds it has.
    parameters_per_rank : trainable parameters of a unit of rank.

    >>> points = [Trained(r, 1e-3, 0, (loss, loss + 0.1), 1.0, 9.0) for r, loss in ((1, 1.2), (2, 1.005), (4, 1.0))]
    >>> found = outcome((2.0, 2.1), (1, 1), points, 100)
    >>> found.best, found.r_sufficient, [round(one.share, 3) for one in found.ranks]
    (4, 2, [0.8, 0.995, 1.0])
    """
    groups = best_rates(points, counts)
    sums = {rank: np.mean([point.sums for point in group], axis=0) for rank, group in groups.items()}
    losses = {rank: ratio_mean(total, counts)[0] for rank, total in sums.items()}
    best = min(sorted(groups), key=lambda rank: losses[rank])
    gain = Loss(*paired_difference(base, sums[best], counts))
    spread, measured = _spread(groups, counts, gain.mean)
    ranks = []
    for rank in sorted(groups):
        mean, se = paired_difference(sums[rank], sums[best], counts)
        if rank != best:
            se = math.hypot(se, spread * math.sqrt(1 / len(groups[rank]) + 1 / len(groups[best])))
        ranks.append(
            RankOutcome(
                rank,
                groups[rank][0].learning_rate,
                Loss(*ratio_mean(sums[rank], counts)),
                Loss(mean, se),
                1 - mean / gain.mean if gain.mean > 0 else math.nan,
                tuple(ratio_mean(point.sums, counts)[0] for point in groups[rank]),
                float(np.mean([point.train_loss for point in groups[rank]])),
                rank * parameters_per_rank,
            )
        )
    allowed = LOSS_SHARE * max(gain.mean, 0.0)

    def first(errors: float) -> int:
        """The smallest rank that suffices with every excess moved by so many of its standard errors."""
        return next(
            one.rank for one in ranks if one.rank == best or one.excess.mean + errors * one.excess.se <= allowed
        )

    return Outcome(
        base=Loss(*ratio_mean(base, counts)),
        gain=gain,
        ranks=tuple(ranks),
        best=best,
        r_sufficient=first(0.0),
        low=first(-STANDARD_ERRORS),
        high=first(STANDARD_ERRORS),
        overfits_from=next((one.rank for one in ranks if one.rank > best and _worse(one)), None),
        seed_spread=spread / gain.mean if gain.mean > 0 else math.nan,
        measured_spread=measured,
        flat=not any(_worse(one) for one in ranks),
    )


def best_rates(points: Sequence[Trained], counts: Sequence[int]) -> Mapping[int, list[Trained]]:
    """Rank → the points of its best learning rate, by the first seed's loss: the others exist for that rate alone."""
    by_rank: dict[int, dict[float, list[Trained]]] = {}
    for point in sorted(points, key=lambda p: (p.rank, p.learning_rate, p.seed)):
        by_rank.setdefault(point.rank, {}).setdefault(point.learning_rate, []).append(point)
    return {rank: min(rates.values(), key=lambda group: _loss(group[0], counts)) for rank, rates in by_rank.items()}


def _loss(point: Trained, counts: Sequence[int]) -> float:
    mean = ratio_mean(point.sums, counts)[0]
    return mean if math.isfinite(mean) else math.inf


def _spread(groups: Mapping[int, list[Trained]], counts: Sequence[int], gain: float) -> tuple[float, bool]:
    """Standard deviation between seeds in nats, pooled over the ranks that have several; whether there are any."""
    squares, freedom = 0.0, 0
    for group in groups.values():
        losses = np.array([_loss(point, counts) for point in group])
        squares += float(((losses - losses.mean()) ** 2).sum())
        freedom += len(group) - 1
    if freedom == 0:
        return ASSUMED_SPREAD * max(gain, 0.0), False
    return math.sqrt(squares / freedom), True


def _worse(one: RankOutcome) -> bool:
    return one.excess.mean > STANDARD_ERRORS * one.excess.se
