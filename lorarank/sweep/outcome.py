"""What a sweep found: the loss at every rank, the rank that suffices, where overfitting starts (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorarank.errors import NumericsError
from lorarank.estimate.constants import LOSS_SHARE, SEED_SPREAD, STANDARD_ERRORS
from lorarank.numerics.paired import paired_difference, ratio_mean
from lorarank.numerics.two_way import TwoWay, two_way
from lorarank.runs import Loss

CLOSE = 2 * math.sqrt(2) * SEED_SPREAD
"""Share of the gain by which two learning rates of a rank may differ by chance, one seed each."""

NOTHING = Loss(math.nan, math.nan)
"""Of a rank that diverged."""


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
    loss : held-out loss, mean over all seeds of the sweep, of which those that this rank lacks are filled in from what
        they do to the other ranks; with its standard error over documents. NaN where a seed diverged.
    excess : loss beyond the best rank's, paired by document. The standard error has documents and seeds in it; where
        few points tell the spread between seeds, it is so much larger that :data:`STANDARD_ERRORS` of it are 95 %.
    share : of the best rank's gain that this rank reaches.
    seeds : held-out loss of every seed it was trained with, as measured.
    train_loss : at the end of training, mean over all seeds like ``loss``.
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

    @property
    def diverged(self) -> bool:
        """Whether a seed of it has no finite held-out loss; then the rank is compared with nothing."""
        return not all(math.isfinite(loss) for loss in self.seeds)

    @property
    def excess_low(self) -> float:
        """The least excess that the error allows, at 95 %."""
        return self.excess.mean - STANDARD_ERRORS * self.excess.se

    @property
    def excess_high(self) -> float:
        """The most excess that the error allows, at 95 %."""
        return self.excess.mean + STANDARD_ERRORS * self.excess.se

    @property
    def worse(self) -> bool:
        """Whether it is worse than the best at 95 %; one that diverged is not comparable."""
        return self.excess_low > 0


@dataclass(frozen=True)
class Outcome:
    """The sweep's answer.

    Attributes
    ----------
    base : held-out loss of the base model.
    gain : of the best rank over the base, paired by document.
    ranks : ascending.
    best : the rank with the lowest loss; one that diverged is never it.
    r_sufficient : the smallest rank that loses at most ``allowed`` of the gain of the best.
    low, high : the smallest rank that could still be so, and the smallest that is, at 95 %.
    overfits_from : the first rank beyond the best that is worse than it at 95 % while its training loss is lower;
        ``None`` where none is.
    seed_spread : standard deviation of one point's loss between seeds, as a share of the gain, beside what a seed does
        to all ranks alike; ``measured_spread`` says whether it was measured here or is :data:`SEED_SPREAD`.
    flat : whether no rank is worse than the best by more than its error, so that the answer is "any".
    allowed : the share of the gain that may be lost.
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
    allowed: float = LOSS_SHARE

    @property
    def learned(self) -> bool:
        """Whether the best rank beats the base model by more than the error of that; where not, no rank suffices."""
        return self.gain.mean > STANDARD_ERRORS * self.gain.se

    @property
    def compared(self) -> bool:
        """Whether two ranks or more have a finite loss; one alone shows nothing."""
        return len(self.ranks) - len(self.diverged) > 1

    @property
    def diverged(self) -> tuple[int, ...]:
        """The ranks that diverged at their best learning rate."""
        return tuple(one.rank for one in self.ranks if one.diverged)

    @property
    def censored(self) -> bool:
        """Whether no rank above the best was measured: a higher one may be better, and then more than
        ``r_sufficient`` is needed; never less, but where :attr:`lowest_suffices`."""
        return all(one.diverged for one in self.ranks if one.rank > self.best)

    @property
    def lowest_suffices(self) -> bool:
        """Whether the answer is the lowest rank that was tried though there are lower ones, which may suffice too."""
        return self.r_sufficient == self.ranks[0].rank > 1

    @property
    def worse_from(self) -> int | None:
        """The first rank beyond the best that is worse than it at 95 %, whatever the reason."""
        return next((one.rank for one in self.ranks if one.rank > self.best and one.worse), None)


def outcome(
    base: Sequence[float],
    counts: Sequence[int],
    points: Sequence[Trained],
    parameters_per_rank: int,
    *,
    allowed: float = LOSS_SHARE,
) -> Outcome:
    """The answer of the points of a sweep.

    A seed stands for the same rows in the same order at every rank, so most of what it does to a loss it does to all
    ranks alike, and only ranks around the answer may have more than one. The losses are therefore fitted as rank plus
    seed (a two-way layout without interaction; :mod:`lorarank.numerics.two_way`): a rank's loss is its mean over all
    seeds, of which those it lacks are filled in, and the spread is what the fit leaves. A rank's loss is a combination
    of points; the same combination of their documents is what is paired for the documents' part of the error.

    Parameters
    ----------
    base : nats per held-out document of the base model.
    counts : target tokens per held-out document.
    points : at least two ranks; of several learning rates at a rank the best is taken, see :func:`best_rates`.
    parameters_per_rank : trainable parameters of a unit of rank.
    allowed : the share of the gain that a rank that suffices may lose.

    Raises
    ------
    NumericsError
        Every rank has a point whose loss is no finite number.

    >>> points = [Trained(r, 1e-3, 0, (loss, loss + 0.1), 1.0, 9.0) for r, loss in ((1, 1.2), (2, 1.005), (4, 1.0))]
    >>> found = outcome((2.0, 2.1), (1, 1), points, 100)
    >>> found.best, found.r_sufficient, [round(one.share, 3) for one in found.ranks]
    (4, 2, [0.8, 0.995, 1.0])
    """
    groups = best_rates(points, counts)
    fit = _fit(base, counts, groups)
    ranks = tuple(
        RankOutcome(
            rank,
            group[0].learning_rate,
            fit.loss(rank),
            fit.excess(rank),
            1 - fit.excess(rank).mean / fit.gain.mean if fit.gain.mean > 0 else math.nan,
            tuple(_loss(point, counts) for point in group),
            fit.train_loss(rank, group),
            rank * parameters_per_rank,
        )
        for rank, group in sorted(groups.items())
    )
    most = allowed * max(fit.gain.mean, 0.0)
    finite = [one for one in ranks if not one.diverged]
    at_best = next(one for one in finite if one.rank == fit.best)
    spread = fit.spread / fit.gain.mean if fit.gain.mean > 0 else math.nan
    return Outcome(
        base=Loss(*ratio_mean(base, counts)),
        gain=fit.gain,
        ranks=ranks,
        best=fit.best,
        r_sufficient=next(one.rank for one in finite if one.rank == fit.best or one.excess.mean <= most),
        low=next(one.rank for one in finite if one.rank == fit.best or not one.excess_low > most),
        high=next(one.rank for one in finite if one.rank == fit.best or one.excess_high <= most),
        overfits_from=next((one.rank for one in finite if _overfits(one, at_best)), None),
        seed_spread=spread,
        measured_spread=fit.measured,
        flat=len(finite) > 1 and all(math.isfinite(one.excess.se) and not one.worse for one in finite),
        allowed=allowed,
    )


def best_rates(points: Sequence[Trained], counts: Sequence[int]) -> Mapping[int, list[Trained]]:
    """Rank → the points of its best learning rate: of those with the most seeds, the one of the least mean loss."""
    return {
        rank: min(rates.values(), key=lambda group: (-len(group), np.mean([_loss(point, counts) for point in group])))
        for rank, rates in _by_rate(points).items()
    }


def close_rates(points: Sequence[Trained], counts: Sequence[int], gain: float) -> Mapping[int, list[float]]:
    """Rank → the learning rates that its first seed does not tell from its best one there, that one included.

    ``gain`` is that of the sweep, in nats per token: a difference of :data:`CLOSE` of it may be chance.

    >>> points = [Trained(8, rate, 0, (loss,), 1.0, 9.0) for rate, loss in ((1e-3, 1.0), (3e-3, 1.01), (1e-2, 1.1))]
    >>> close_rates(points, (1,), gain=1.0)
    {8: [0.001, 0.003]}
    """
    found = {}
    for rank, rates in _by_rate(points).items():
        first = {rate: _loss(group[0], counts) for rate, group in rates.items()}
        most = min(first.values()) + CLOSE * max(gain, 0.0)
        found[rank] = [rate for rate, loss in first.items() if loss <= most]
    return found


def _by_rate(points: Sequence[Trained]) -> Mapping[int, Mapping[float, list[Trained]]]:
    """Rank → learning rate → points, all ascending, seeds too."""
    found: dict[int, dict[float, list[Trained]]] = {}
    for point in sorted(points, key=lambda p: (p.rank, p.learning_rate, p.seed)):
        found.setdefault(point.rank, {}).setdefault(point.learning_rate, []).append(point)
    return found


@dataclass(frozen=True)
class _Fit:
    """Ranks and seeds fitted to the points of the ranks that did not diverge.

    ``sums`` is (ranks, documents) nats; ``train`` (ranks,) and ``spread``, of one point, are nats per token;
    ``stretch`` is by how much the seeds' part of an error is wider than that of a known spread: few degrees of freedom
    estimate it badly.
    """

    layout: TwoWay
    at: Mapping[int, int]
    sums: NDArray[np.float64]
    train: NDArray[np.float64]
    counts: Sequence[int]
    best: int
    gain: Loss
    spread: float
    measured: bool
    stretch: float

    def loss(self, rank: int) -> Loss:
        """Held-out loss over all seeds."""
        return Loss(*ratio_mean(self.sums[self.at[rank]], self.counts)) if rank in self.at else NOTHING

    def excess(self, rank: int) -> Loss:
        """Beyond the best rank's; its error has documents and seeds in it."""
        if rank not in self.at:
            return NOTHING
        here, best = self.at[rank], self.at[self.best]
        mean, documents = paired_difference(self.sums[here], self.sums[best], self.counts)
        return Loss(mean, math.hypot(documents, self.stretch * self.spread * self.layout.factor(here, best)))

    def train_loss(self, rank: int, group: Sequence[Trained]) -> float:
        """Over all seeds; over its own where one is not known, as of a point that was taken up after its last step."""
        known = rank in self.at and math.isfinite(self.train[self.at[rank]])
        return float(self.train[self.at[rank]]) if known else float(np.mean([point.train_loss for point in group]))


def _fit(base: Sequence[float], counts: Sequence[int], groups: Mapping[int, list[Trained]]) -> _Fit:
    finite = {rank: group for rank, group in groups.items() if all(_loss(one, counts) < math.inf for one in group)}
    if not finite:
        raise NumericsError("the sweep", "the loss is no finite number at any rank", do="give lower rates with --lrs")
    points = [point for _, group in sorted(finite.items()) for point in group]
    layout = two_way([point.rank for point in points], [point.seed for point in points])
    sums = layout.weights @ np.array([point.sums for point in points])
    ranks = sorted(finite)
    lowest = int(np.argmin(sums.sum(axis=1)))
    gain = Loss(*paired_difference(base, sums[lowest], counts))
    measured = layout.freedom > 0
    return _Fit(
        layout=layout,
        at={rank: row for row, rank in enumerate(ranks)},
        sums=sums,
        train=layout.weights @ np.array([point.train_loss for point in points]),
        counts=counts,
        best=ranks[lowest],
        gain=gain,
        spread=layout.spread([_loss(p, counts) for p in points]) if measured else SEED_SPREAD * max(gain.mean, 0.0),
        measured=measured,
        stretch=_stretch(layout.freedom) if measured else 1.0,
    )


def _stretch(freedom: int) -> float:
    """Student's t over its limit for ever so many degrees of freedom, both at 95 %.

    >>> round(_stretch(1), 2), round(_stretch(6), 2)
    (6.48, 1.25)
    """
    from scipy.stats import t

    return float(t.ppf(0.975, freedom) / STANDARD_ERRORS)


def _loss(point: Trained, counts: Sequence[int]) -> float:
    """Nats per token; infinite where it is no finite number, so that it is never the lowest."""
    mean = float(np.sum(point.sums) / np.sum(counts))
    return mean if math.isfinite(mean) else math.inf


def _overfits(one: RankOutcome, best: RankOutcome) -> bool:
    """Whether a rank above the best is worse on held-out data though better on what it is trained on."""
    return one.rank > best.rank and one.worse and one.train_loss < best.train_loss
