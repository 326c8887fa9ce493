"""The two answers and what surrounds them: train rank, interval, keep rank, alpha (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.capacity import CapacityFloor, Recall
from lorarank.estimate import constants
from lorarank.estimate.recommendation import (
    Alpha,
    EnergyRule,
    Growth,
    Interval,
    KeepRank,
    LowRank,
    Outlook,
    Reading,
    cut_share,
)
from lorarank.estimate.rule import answer, bracket, median_rank
from lorarank.numerics.ladder import LADDER, octaves, round_up
from lorarank.numerics.pooling import Spectra, pooled_rank, share_kept
from lorarank.runs import Companion, Truncation
from lorarank.wording import percent


def energy_rule(spectra: Spectra, energy: float | None) -> EnergyRule:
    """The plain rule at ``energy``, or at the default share.

    >>> import numpy as np
    >>> energy_rule([np.array([3.0, 2.0, 1.0])], None)  # doctest: +ELLIPSIS
    EnergyRule(share=0.9, explicit=False, median=2.0, r=2, pooled=2, kept=0.92...)
    """
    share = constants.ENERGY if energy is None else energy
    median = median_rank(spectra, share)
    r = round_up(median)
    return EnergyRule(share, energy is not None, median, r, pooled_rank(spectra, share), share_kept(spectra, r))


def low_rank(
    companion: Companion | None,
    truncation: Truncation,
    gain: float,
    *,
    prompts_used: bool = True,
    allowed: float = constants.LOSS_SHARE,
) -> LowRank | None:
    """What a companion at a low rank and a cut of the probe say together; ``allowed`` of the gain may be lost.

    Where prompts are of no use on held-out rows, part of the update is rows of training learned by heart. A cut cannot
    tell it from the rest and asks for a rank for both, so that it may lower the answer there, but not raise it.

    ``None`` without a companion, or where its loss or the gain is no number.

    >>> from lorarank.runs import Loss, TruncationPoint
    >>> cut = Truncation(1, "loss", 32, 60, (TruncationPoint(16, Loss(1.51, 0.1), Loss(0.01, 0.002)),), ())
    >>> low_rank(Companion(1, 1, Loss(1.55, 0.1), Loss(0.05, 0.004)), cut, gain=1.0)  # doctest: +ELLIPSIS
    LowRank(rank=1, lost=0.05, lost_se=0.008..., needed=5.0, cut=16, between=8.9..., r=16, low=4, ...)
    """
    cut = keep_rank(truncation, gain, cut_share(allowed))
    if companion is None or cut is None or not math.isfinite(companion.excess.mean):
        return None
    lost = companion.excess.mean / gain
    documents = companion.excess.se / gain if math.isfinite(companion.excess.se) else 0.0
    se = math.hypot(documents, math.sqrt(2) * constants.SEED_SPREAD)

    def needed(share: float, power: float) -> float:
        """The rank that loses what is allowed where the companion loses ``share``."""
        return companion.rank * math.pow(max(share, 0.0) / allowed, 1 / power)

    slow, fast = constants.POWER_RANGE
    errors = constants.STANDARD_ERRORS * se
    enough = needed(lost, constants.POWER)

    def halfway(k: int) -> float:
        return math.sqrt(max(enough, 1.0) * k)

    def answer_at(k: int) -> int:
        return round_up(halfway(k) if prompts_used else min(halfway(k), max(enough, 1.0)))

    return LowRank(
        rank=companion.rank,
        lost=lost,
        lost_se=se,
        needed=enough,
        cut=cut.r,
        between=halfway(cut.r),
        r=answer_at(cut.r),
        low=round_up(needed(lost - errors, fast)),
        high=round_up(needed(lost + errors, slow)),
        prompts_used=prompts_used,
        at_cuts=None if cut.low is None or cut.high is None else (answer_at(cut.low), answer_at(cut.high)),
        allowed=allowed,
    )


def law(found: LowRank, r: int) -> tuple[tuple[int, float, float, float], ...]:
    """What each rank of the ladder loses by the law that the answer ``r`` rests on, and its limits.

    Up to two doublings beyond the answer, and to the upper end of what the law leaves open.

    Rank, share of the gain, and the lower and upper limit: 95 % of the companion's errors, and the powers of
    :data:`~lorarank.estimate.constants.POWER_RANGE`.

    >>> law(LowRank(1, 0.04, 0.005, 4.0, 4, 4.0, 4, 2, 16), 4)[2]
    (4, 0.01, 0.00498..., 0.0176...)
    """
    slow, fast = constants.POWER_RANGE
    errors = constants.STANDARD_ERRORS * found.lost_se
    points = []
    for rung in LADDER:
        if not found.rank <= rung <= max(4 * r, found.high):
            continue
        share = found.rank / rung
        limits = [(found.lost - errors) * share**fast, (found.lost + errors) * share**slow]
        points.append((rung, found.lost * share**constants.POWER, min(limits), max(limits)))
    return tuple(points)


def outlook(companion: Companion | None) -> Outlook | None:
    """Whether the companion falls behind further or catches up as training ends, for what a longer run would answer.

    Where it ends no worse than the probe there is no distance to read that from. ``None`` without a companion, or where
    fewer than two parts of its training were compared.

    >>> from lorarank.runs import Loss
    >>> parts = (Loss(0.16, 0.03), Loss(0.07, 0.01), Loss(0.07, 0.005), Loss(0.13, 0.005))
    >>> outlook(Companion(1, 1, Loss(1.55, 0.1), Loss(0.05, 0.004), parts))  # doctest: +ELLIPSIS
    Outlook(before=0.07, end=0.13, se=0.00..., moves='up')
    """
    if companion is None or len(companion.training) < 2:
        return None
    before, end = companion.training[-2:]
    se = math.hypot(before.se, end.se)
    change = end.mean - before.mean
    if not math.isfinite(change) or not math.isfinite(se):
        return None
    clear = end.mean > 0 and abs(change) > constants.ONE_SIDED * se
    return Outlook(before.mean, end.mean, se, ("up" if change > 0 else "down") if clear else "stays")


def with_recall(found: LowRank, recall: Recall | None) -> int:
    """The answer: what companion and cut say, or what recall takes where training is long enough for it and it is more.

    >>> from lorarank.capacity import recall
    >>> found = LowRank(1, 0.0, 0.005, 0.0, 2, 1.4, 2, 1, 2)
    >>> [with_recall(found, recall(1_088, 1.3, tokens, 0.4, 12_800)) for tokens in (32_768, 262_144)]
    [2, 8]
    """
    return max(found.r, round_up(recall.rank)) if recall is not None and recall.binds else found.r


def low_rank_interval(found: LowRank, capacity: CapacityFloor, r: int) -> Interval:
    """The answer ``r`` and what the errors of the companion's loss and of the law leave open.

    The capacity floor raises the upper end.
    """
    readings = [
        Reading("the answer", r),
        *([Reading("without recall", found.r)] if r != found.r else ()),
        Reading(f"what r = {found.rank} loses", round_up(found.needed)),
        Reading("less its error", found.low),
        Reading("and more", found.high),
    ]
    if math.isfinite(capacity.rank):
        readings.append(Reading("capacity floor", round_up(capacity.rank)))
    return Interval(min(found.low, found.r), max(reading.r for reading in readings), tuple(readings))


def interval(
    rule: EnergyRule,
    spectra: Spectra,
    replicates: Sequence[Spectra],
    earlier: Spectra,
    growth: Growth | None,
    capacity: CapacityFloor,
) -> Interval:
    """The envelope of every reading of the train rank.

    Parameters
    ----------
    rule : the answer.
    spectra : of the first adapter, in the rule's metric.
    replicates : of the others, likewise.
    earlier : of the first, three quarters of the way; empty where they are not known in the rule's metric.
    growth : whether the rank still grew then: raises the upper end by one doubling.
    capacity : raises the upper end only; a short probe says nothing about what a long run must hold.
    """
    low_share, high_share = bracket(rule.share)
    readings = [
        Reading(f"{percent(rule.share)} energy", rule.r),
        Reading(f"{percent(low_share)} energy", answer(spectra, low_share)),
        Reading(f"{percent(high_share)} energy", answer(spectra, high_share)),
    ]
    for index, other in enumerate(replicates, start=1):
        readings.append(Reading(f"replicate {index}", answer(other, rule.share)))
    if earlier:
        readings.append(Reading("three quarters of the way", answer(earlier, rule.share)))
    low = min(reading.r for reading in readings)
    if growth is not None and growth.grows:
        readings.append(Reading("still growing", round_up(2 * max(reading.r for reading in readings))))
    if math.isfinite(capacity.rank):
        readings.append(Reading("capacity floor", round_up(capacity.rank)))
    return Interval(low, max(reading.r for reading in readings), tuple(readings))


def keep_rank(truncation: Truncation, gain: float, allowed: float = constants.LOSS_SHARE) -> KeepRank | None:
    """The smallest k of the truncation curve that loses at most ``allowed`` of the gain; ``None`` without a gain.

    The uncut probe loses nothing, so its rank is always good enough.

    >>> from lorarank.runs import Loss, TruncationPoint
    >>> points = tuple(TruncationPoint(k, Loss(2 + e, 0.1), Loss(e, 0.002)) for k, e in ((1, 0.2), (2, 0.009)))
    >>> keep_rank(Truncation(1, "loss", 4, 60, points, ()), gain=1.0)
    KeepRank(r=2, low=2, high=4, basis='truncation curve', metric='loss', excess=0.009)
    """
    if not gain > 0:
        return None
    points = sorted(truncation.points, key=lambda point: point.k)
    most = allowed * gain

    def smallest(errors: float) -> int:
        """The answer with every point moved by so many of its standard errors."""
        return next((p.k for p in points if p.excess.mean + errors * p.excess.se <= most), truncation.rank)

    r = next((point.k for point in points if point.excess.mean <= most), truncation.rank)
    known = all(math.isfinite(point.excess.se) for point in points)
    excess = next((point.excess.mean / gain for point in points if point.k == r < truncation.rank), None)
    low, high = (smallest(-1), smallest(+1)) if known else (None, None)
    return KeepRank(r, low, high, "truncation curve", truncation.metric, excess)


def pooled_keep_rank(rule: EnergyRule, metric: str) -> KeepRank:
    """A description where no loss was measured: the rank that keeps the rule's share of all energy together."""
    return KeepRank(rule.pooled, None, None, "pooled energy", metric, None)


def alpha_for(r: int, probe_alpha: int, learning_rate: float) -> Alpha:
    """``lora_alpha`` for a rank: the nearer of 2r and r, in doublings, to the alpha of the probe; ties go to 2r.

    With alpha kept, a tuned learning rate carries over between ranks (J. Schulman et al., LoRA Without Regret, 2025);
    2r and r are the two conventions of the reference table. The learning rate is moved against what remains.

    >>> [alpha_for(r, 32, 1e-3).convention for r in (8, 16, 32, 64)]
    ['2r', '2r', 'r', 'r']
    """
    double = octaves(2 * r, probe_alpha) <= octaves(r, probe_alpha)
    lora_alpha = 2 * r if double else r
    change = min(max(probe_alpha / lora_alpha, 1 / constants.RATE_CHANGE), constants.RATE_CHANGE)
    return Alpha(lora_alpha, "2r" if double else "r", learning_rate * change)
