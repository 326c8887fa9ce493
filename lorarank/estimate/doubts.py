"""What lowers the confidence in an answer (floor 2): a list of sentences each, empty where nothing does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.estimate import constants
from lorarank.estimate.recommendation import Evidence, Interval, KeepRank, LowRank, Replication
from lorarank.heuristics import Comparison
from lorarank.numerics import measures
from lorarank.numerics.ladder import octaves
from lorarank.runs import Loss, Manifest, TrainingFacts
from lorarank.wording import percent


def doubts(
    manifest: Manifest,
    evidence: Evidence,
    r: int,
    interval: Interval,
    keep: KeepRank | None,
    replication: Replication | None,
    heuristics: Comparison,
    low_rank: LowRank | None = None,
) -> tuple[str, ...]:
    """All of them, the most telling first.

    Beside a companion the reference table is none: it was right on half of the pairs where the answer was right on
    nearly all (data/evidence/bakeoff.json).
    """
    return (
        *_few_steps(evidence),
        *far_off(evidence),
        *unused_prompts(None if evidence.controls is None else evidence.controls.other_prompts),
        *_like_noise(evidence),
        *_still_growing(evidence),
        *_weak_gain(evidence),
        *_weak_agreement(replication),
        *_of_low_rank(low_rank, r),
        *wide(interval),
        *_poor_search(manifest.training),
        *contradicted(keep, r),
        *_many_epochs(evidence),
        *(_beside_the_table(heuristics) if low_rank is None else ()),
    )


def _few_steps(evidence: Evidence) -> list[str]:
    if evidence.steps >= constants.FEW_STEPS:
        return []
    return [
        f"The probe took only {evidence.steps} steps; below {constants.FEW_STEPS} its spectrum is mostly the start "
        "of training."
    ]


def far_off(evidence: Evidence) -> list[str]:
    """Says of a given learning rate that a tenth or ten times of it did better in short trials, or that it is far above
    all that a measured sweep did best at: in a few steps a rate that is fifty times too high may look good."""
    rates = () if evidence.controls is None else evidence.controls.rates
    finite = [trial for trial in rates if math.isfinite(trial.loss)]
    best = min(finite, key=lambda trial: trial.loss, default=None)
    middle = sorted(trial.learning_rate for trial in rates)[len(rates) // 2 : len(rates) // 2 + 1]
    if best is None:
        return []
    if evidence.learning_rate > constants.FAR_OFF * constants.HIGHEST_RATE:
        return [
            f"The learning rate {evidence.learning_rate:.3g} is far off: no measured sweep did best above "
            f"{constants.HIGHEST_RATE:g}; leave --lr out, and the probe searches for one."
        ]
    if [best.learning_rate] == middle:
        return []
    better = "ten times" if best.learning_rate > middle[0] else "a tenth of"
    return [
        f"The learning rate {evidence.learning_rate:.3g} is far off: in trials of {best.steps} steps {better} it does "
        "better; leave --lr out, and the probe searches for one."
    ]


def _like_noise(evidence: Evidence) -> list[str]:
    if not evidence.noise >= measures.NOISE_RATIO:
        return []
    return [
        f"The spectrum is indistinguishable from noise: its participation ratio is {percent(evidence.noise, 0)} "
        "of that of a random product."
    ]


def _still_growing(evidence: Evidence) -> list[str]:
    if evidence.growth is None or not evidence.growth.grows:
        return []
    return ["The rank was still growing when the probe ended."]


def _weak_gain(evidence: Evidence) -> list[str]:
    if not evidence.gain < constants.WEAK_GAIN * evidence.gain_se:
        return []
    errors = evidence.gain / evidence.gain_se
    return [f"The gain is weak: {errors:.1f} standard errors, below {constants.WEAK_GAIN:g}."]


def _weak_agreement(replication: Replication | None) -> list[str]:
    if replication is None or not replication.agreement < constants.WEAK_AGREEMENT:
        return []
    return [f"The replicates agree weakly ({replication.agreement:.2f})."]


def _of_low_rank(low_rank: LowRank | None, r: int) -> list[str]:
    if low_rank is None:
        return []
    return [*_untold(low_rank), *_unsure(low_rank, r)]


def _untold(low_rank: LowRank) -> list[str]:
    if low_rank.told:
        return []
    least, most = constants.TOLD_LOSSES
    return [
        f"That {percent(low_rank.allowed)} of the gain may be lost is outside of what measured sweeps vouch for, "
        f"{percent(least)} to {percent(most)}."
    ]


def _unsure(low_rank: LowRank, r: int) -> list[str]:
    if r != low_rank.r:
        return ["The answer is what recall takes, by a law that was measured on facts in one small model alone."]
    return unsettled(low_rank)


def unsettled(low_rank: LowRank) -> list[str]:
    """Says of an answer that it turns on the errors of the cut."""
    if low_rank.at_cuts is None or len(set(low_rank.at_cuts)) == 1:
        return []
    low, high = low_rank.at_cuts
    return [
        f"The answer turns on the error of the cut: a standard error less or more of its loss says {low} or {high}."
    ]


def wide(interval: Interval) -> list[str]:
    """Says of an interval that it is wide."""
    if octaves(interval.low, interval.high) <= constants.WIDE_OCTAVES:
        return []
    return [f"The interval is wide: {interval.low} to {interval.high}."]


def _poor_search(training: TrainingFacts) -> list[str]:
    """Says of a search for the learning rate that there was none, or that it ended at the edge."""
    trials = training.learning_rate_trials
    if trials and all(trial.steps == 0 for trial in trials):
        return [
            f"The learning rate {training.learning_rate:.3g} is untested: the probe was too short to search for one."
        ]
    rates = sorted(trial.learning_rate for trial in trials)
    finite = [trial for trial in trials if math.isfinite(trial.loss)]
    best = min(finite, key=lambda trial: trial.loss).learning_rate if finite else training.learning_rate
    if len(rates) < 2 or rates[0] < best < rates[-1]:
        return []
    return [
        f"The best learning rate of the search, {best:.3g}, is at the edge of those tried, so a better one may lie "
        "beyond it."
    ]


def contradicted(keep: KeepRank | None, r: int) -> list[str]:
    """Says of a keep rank that it contradicts the answer."""
    if keep is None or keep.r <= constants.KEEP_FACTOR * r:
        return []
    return [f"The keep rank {keep.r} contradicts the answer: it is more than {constants.KEEP_FACTOR:g} times {r}."]


def _many_epochs(evidence: Evidence) -> list[str]:
    if not evidence.epochs > constants.MANY_EPOCHS:
        return []
    return [f"The probe went over its data {evidence.epochs:.1f} times, so part of the spectrum is memorisation."]


def _beside_the_table(heuristics: Comparison) -> list[str]:
    row = heuristics.row
    if heuristics.agrees is not False or row is None:
        return []
    return [f"The reference table says {row.low}–{row.high} for {row.task}, more than one doubling away."]


def unused_prompts(lost: Loss | None) -> list[str]:
    """Says of prompts that they are of no use, or may be, by what the prompts of other rows lose."""
    if lost is None or prompts_used(lost, errors=constants.SURE_OF_PROMPTS):
        return []
    nearly, learned = ("nearly ", "may have learned") if prompts_used(lost) else ("", "learned")
    return [
        f"With the prompt of another row the probe predicts held-out completions {nearly}as well as with their own "
        f"(loss {lost.mean:+.3f} ± {lost.se:.3f} nats): it {learned} what completions look like and not what they "
        "answer, as from shuffled labels."
    ]


def prompts_used(lost: Loss | None, *, errors: float = constants.REFUSED_GAIN) -> bool:
    """Whether held-out completions need their prompts: whether those of other rows lose more than so many standard
    errors; true if not known.

    >>> prompts_used(None), prompts_used(Loss(0.5, 0.1)), prompts_used(Loss(0.1, 0.1))
    (True, True, False)
    """
    if lost is None or not (math.isfinite(lost.mean) and math.isfinite(lost.se)):
        return True
    return lost.mean > errors * lost.se


def confidence(evidence: Evidence, found: Sequence[str]) -> str:
    """ "high" without a doubt, "medium" with one or two, "low" with more, after too few steps, or at a rate far off.

    The count is :data:`lorarank.estimate.constants.MEDIUM_DOUBTS`.
    """
    return level(found, unsound=evidence.steps < constants.FEW_STEPS or bool(far_off(evidence)))


def level(found: Sequence[str], *, unsound: bool) -> str:
    """The confidence that so many doubts leave; ``unsound`` where one alone makes it low.

    >>> level([], unsound=False), level(["a", "b"], unsound=False), level(["a"], unsound=True)
    ('high', 'medium', 'low')
    """
    if unsound or len(found) > constants.MEDIUM_DOUBTS:
        return "low"
    return "medium" if found else "high"
