"""Is the energy signal? What a run says about itself, what refuses an answer, and what lowers confidence (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.capacity import Recall, capacity_floor, recall
from lorarank.estimate import constants
from lorarank.estimate.recommendation import (
    EnergyRule,
    Evidence,
    Growth,
    Interval,
    KeepRank,
    LowRank,
    Replication,
)
from lorarank.estimate.rule import mean_rank
from lorarank.heuristics import Comparison
from lorarank.numerics import measures
from lorarank.numerics.ladder import octaves
from lorarank.numerics.pooling import Spectra, energies
from lorarank.runs import DataFacts, HeldoutFacts, Loss, Manifest, Run, Trajectory
from lorarank.spectrum import Spectrum
from lorarank.wording import percent


def gather(run: Run, weight: Sequence[Spectrum], share: float, tokens: int | None = None) -> Evidence:
    """What the run measured, and the spectra's distance from noise.

    Parameters
    ----------
    run : the run.
    weight : spectra of its first adapter in the ``weight`` metric.
    share : energy share of the rule.
    tokens : of the training that the rank is for; the probe's where left out.
    """
    data, training, heldout = run.manifest.data, run.manifest.training, run.manifest.heldout
    worst, probe = weakest(heldout)
    per_rank = max(1, sum(module.parameters_per_rank for module in weight))
    return Evidence(
        base_loss=heldout.base.mean,
        probe_loss=probe.mean,
        gain=worst.mean,
        gain_se=worst.se,
        heldout_documents=data.heldout_documents,
        rank=training.rank,
        steps=training.steps,
        trained_tokens=training.trained_tokens,
        epochs=training.epochs,
        learning_rate=training.learning_rate,
        noise=noise_ratio(weight),
        growth=_growth(run.trajectory, weight, share),
        capacity=capacity_floor(data.unique_target_tokens, heldout.base.mean, per_rank),
        controls=run.controls,
        recall=_recall(data, probe.mean, training.trained_tokens if tokens is None else tokens, per_rank),
    )


def _recall(data: DataFacts, loss: float, tokens: int, parameters_per_rank: int) -> Recall | None:
    """What recall asks for, where that is what held-out rows ask for."""
    known, distinct = data.known_targets, data.distinct_target_tokens
    if known is None or distinct is None or known < constants.KNOWN_TARGETS or not math.isfinite(loss):
        return None
    targets = data.unique_target_tokens / max(1, data.unique_tokens)
    return recall(distinct, loss, tokens, targets, parameters_per_rank)


def weakest(heldout: HeldoutFacts) -> tuple[Loss, Loss]:
    """Gain and loss of the replicate whose gain stands fewest standard errors above zero, or is no number at all."""

    def strength(pair: tuple[Loss, Loss]) -> float:
        gain = pair[0]
        if not (math.isfinite(gain.mean) and math.isfinite(gain.se)):
            return -math.inf
        return gain.mean / gain.se if gain.se > 0 else math.copysign(math.inf, gain.mean)

    nothing = (Loss(math.nan, math.nan), Loss(math.nan, math.nan))
    return min(zip(heldout.gains, heldout.probes, strict=True), key=strength, default=nothing)


def noise_ratio(spectra: Sequence[Spectrum]) -> float:
    """Energy-weighted mean of participation ratio over its value for a product of two Gaussian matrices."""
    weights = energies([module.singular_values for module in spectra])
    ratios = [
        measures.participation_ratio(m.singular_values)
        / measures.gaussian_product_participation(m.r, m.out_features, m.in_features)
        for m in spectra
    ]
    return float(sum(weight * ratio for weight, ratio in zip(weights, ratios, strict=True)))


def _growth(trajectory: Trajectory, weight: Sequence[Spectrum], share: float) -> Growth | None:
    earlier = spectra_at(trajectory, constants.GROWTH_POINT)
    if not earlier:
        return None
    before, end = mean_rank(earlier, share), mean_rank([module.singular_values for module in weight], share)
    return Growth(before, end, end > constants.GROWTH * before)


def spectra_at(trajectory: Trajectory, fraction: float) -> Spectra:
    """The spectra at the point of the trajectory that is nearest to ``fraction``; empty where there is none."""
    import numpy as np

    points = [point for point in trajectory.points if point.singular_values]
    if not points:
        return ()
    nearest = min(points, key=lambda point: abs(point.fraction - fraction))
    spectra = [np.array(values, dtype=np.float64) for values in nearest.singular_values.values()]
    return spectra if all(np.isfinite(values).all() for values in spectra) else ()


def refusals(
    manifest: Manifest,
    evidence: Evidence,
    rule: EnergyRule | None,
    replication: Replication | None,
    low_rank: LowRank | None = None,
    failed: str | None = None,
) -> tuple[str, ...]:
    """Why the evidence does not carry a recommendation, as sentences; empty where it does.

    ``rule`` is ``None`` where the adapter holds NaN or infinity: the caller says so. ``low_rank`` is given where the
    answer comes from it, and ``failed`` where :func:`failed_companion` says that it cannot.
    """
    training = manifest.training
    found = []
    if not (math.isfinite(training.first_loss) and math.isfinite(training.final_loss)):
        found.append(
            f"The training loss is not a number: the learning rate {training.learning_rate:.3g} is evidently wrong; "
            f"{_other_rate(manifest)}."
        )
    elif training.final_loss > (1 + constants.ROSE) * training.first_loss:
        found.append(
            f"The training loss rose from {training.first_loss:.3f} to {training.final_loss:.3f}: the learning rate "
            f"{training.learning_rate:.3g} is evidently wrong; {_other_rate(manifest)}."
        )
    trials = [trial for trial in training.learning_rate_trials if trial.steps > 0]
    if trials and not any(math.isfinite(trial.loss) for trial in trials):
        found.append("No trial of the learning-rate search ended with a finite loss; probe again with a lower --lr.")
    if rule is not None and rule.median == 0:
        found.append("lora_B is all zero in every module: the probe did not train, so there is no spectrum to read.")
    found.extend(_gain_refusals(manifest, evidence))
    ceiling = constants.RANK_CEILING * training.rank
    if failed is not None:
        found.append(failed)
    elif low_rank is not None and max(low_rank.needed, low_rank.r) > ceiling:
        searched = "" if training.learning_rate_trials else ", and without --lr: one too high for r = 1 looks the same"
        found.append(
            f"More than r = {ceiling:g} is asked for, half of the probe's rank: r = {low_rank.rank} loses "
            f"{percent(low_rank.lost, 1)} of the gain, which asks for r = {low_rank.needed:.0f}, and a cut that loses "
            f"at most {percent(constants.CUT_SHARE)} keeps r = {low_rank.cut}: there the probe itself is no yardstick. "
            f"Probe higher with --rank {2 * training.rank}{searched}."
        )
    elif low_rank is None and rule is not None and max(rule.median, rule.r) > ceiling:
        found.append(
            f"The answer is above {ceiling:g}, half of the probe's rank: "
            f"{percent(rule.share)} of the energy takes {rule.median:g} of the probe's {training.rank} directions in "
            "the median module, so its own ceiling shapes the number; probe higher with "
            f"--rank {2 * training.rank}."
        )
    if (
        replication is not None
        and replication.agreement < constants.REFUSED_AGREEMENT
        and replication.replicated_median == 0
    ):
        found.append(
            f"The replicates do not agree (agreement {replication.agreement:.2f}, replicated rank 0 in the median "
            "module): the energy is noise; probe with more --tokens."
        )
    return tuple(found)


def failed_companion(run: Run) -> str | None:
    """Says of a companion that it lost more than the probe cut to its rank, which training at that rank cannot.

    On none of the pairs of data/evidence/pairs it did; at twice the tuned rate it did on two tasks of four
    (data/evidence/invariance.json).
    """
    companion = run.companion
    cut = None if companion is None else next((p.excess for p in run.truncation.points if p.k == companion.rank), None)
    if companion is None or cut is None:
        return None
    lost, training = companion.excess, run.manifest.training
    if not lost.mean - cut.mean > constants.REFUSED_GAIN * math.hypot(lost.se, cut.se):  # nor where one is no number
        return None
    return (
        f"The probe at r = {companion.rank} loses {lost.mean:.3f} nats more than the whole probe, which loses "
        f"{cut.mean:.3f} cut to r = {companion.rank}: it did worse than training at that rank can. Most likely the "
        f"learning rate {training.learning_rate:.3g} is too high for it; {_other_rate(run.manifest)}."
    )


def _other_rate(manifest: Manifest) -> str:
    """What to do about a learning rate that is too high: one that was given is best searched for."""
    training = manifest.training
    lower = f"give a lower one, say --lr {training.learning_rate / 3:.2g}"
    return lower if training.learning_rate_trials else "leave --lr out, and the probe searches for one"


def _gain_refusals(manifest: Manifest, evidence: Evidence) -> list[str]:
    losses = (manifest.heldout.base, *manifest.heldout.probes)
    if not all(math.isfinite(loss.mean) for loss in losses) or not math.isfinite(evidence.gain):
        return ["A held-out loss is not a number: the probe diverged, or the base model cannot read this data."]
    if not math.isfinite(evidence.gain_se):
        return [
            f"There are too few held-out documents ({evidence.heldout_documents}) to tell the gain from chance; give "
            "more with --val."
        ]
    if evidence.gain <= max(0.0, constants.REFUSED_GAIN * evidence.gain_se):
        return [
            f"The probe is no better than the base model on held-out data: it gains {evidence.gain:.3f} ± "
            f"{evidence.gain_se:.3f} nats, and {constants.REFUSED_GAIN:g} standard errors are the least that counts; "
            "check that the data is what you mean to train on, then probe with more --tokens."
        ]
    if evidence.gain <= constants.LEAST_GAIN * evidence.base_loss:
        return [
            f"The base model predicts this data nearly as well as the probe: it loses {evidence.base_loss:.3f} nats "
            f"and the probe gains {evidence.gain:.3f} ± {evidence.gain_se:.3f} of them, under "
            f"{percent(constants.LEAST_GAIN)}; there is next to nothing to learn, so no rank to learn it with."
        ]
    known = None if evidence.controls is None else evidence.controls.over_frequencies
    if known is not None and known.mean <= max(constants.LEAST_OVER_FREQUENCIES, constants.REFUSED_GAIN * known.se):
        worse = known.mean < -constants.REFUSED_GAIN * known.se
        begun = (
            "it has hardly begun to learn" if worse else "what it learned is which tokens occur, as from random text"
        )
        few = evidence.steps < constants.FEW_STEPS
        after = f", after {evidence.steps} step{'s' if evidence.steps != 1 else ''}" if few else ""
        first = "" if few else "check the data, then "
        return [
            f"The probe predicts held-out tokens {'worse' if worse else 'hardly better'} than their frequencies in "
            f"training do ({known.mean:.3f} ± {known.se:.3f} nats){after}: {begun}, and no rank follows from that; "
            f"{first}probe with more --tokens."
        ]
    return []


def rate_doubt(evidence: Evidence) -> str | None:
    """Says of a given learning rate that a tenth or ten times of it did better in short trials, or that it is far above
    all that a measured sweep did best at: in a few steps a rate that is fifty times too high may look good."""
    rates = () if evidence.controls is None else evidence.controls.rates
    finite = [trial for trial in rates if math.isfinite(trial.loss)]
    best = min(finite, key=lambda trial: trial.loss, default=None)
    middle = sorted(trial.learning_rate for trial in rates)[len(rates) // 2 : len(rates) // 2 + 1]
    if best is None:
        return None
    if evidence.learning_rate > constants.FAR_OFF * constants.HIGHEST_RATE:
        return (
            f"The learning rate {evidence.learning_rate:.3g} is far off: no measured sweep did best above "
            f"{constants.HIGHEST_RATE:g}; leave --lr out, and the probe searches for one."
        )
    if [best.learning_rate] == middle:
        return None
    better = "ten times" if best.learning_rate > middle[0] else "a tenth of"
    return (
        f"The learning rate {evidence.learning_rate:.3g} is far off: in trials of {best.steps} steps {better} it does "
        "better; leave --lr out, and the probe searches for one."
    )


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
    """What lowers the confidence, a sentence each, the most telling first.

    Beside a companion the reference table does not: it was right on half of the pairs where the answer was right on
    nearly all (data/evidence/bakeoff.json).
    """
    training = manifest.training
    trials = training.learning_rate_trials
    rates = sorted(trial.learning_rate for trial in trials)
    finite = [trial for trial in trials if math.isfinite(trial.loss)]
    best = min(finite, key=lambda trial: trial.loss).learning_rate if finite else training.learning_rate
    found = []
    if evidence.steps < constants.FEW_STEPS:
        found.append(
            f"The probe took only {evidence.steps} steps; below {constants.FEW_STEPS} its spectrum is mostly the start "
            "of training."
        )
    off = rate_doubt(evidence)
    if off is not None:
        found.append(off)
    found.extend(unused_prompts(None if evidence.controls is None else evidence.controls.other_prompts))
    if evidence.noise >= measures.NOISE_RATIO:
        found.append(
            f"The spectrum is indistinguishable from noise: its participation ratio is {percent(evidence.noise, 0)} "
            "of that of a random product."
        )
    if evidence.growth is not None and evidence.growth.grows:
        found.append("The rank was still growing when the probe ended.")
    if evidence.gain < constants.WEAK_GAIN * evidence.gain_se:
        found.append(
            f"The gain is weak: {evidence.gain / evidence.gain_se:.1f} standard errors, below {constants.WEAK_GAIN:g}."
        )
    if replication is not None and replication.agreement < constants.WEAK_AGREEMENT:
        found.append(f"The replicates agree weakly ({replication.agreement:.2f}).")
    if low_rank is not None and r != low_rank.r:
        found.append("The answer is what recall takes, by a law that was measured on facts in one small model alone.")
    elif low_rank is not None:
        found.extend(unsettled(low_rank))
    found.extend(wide(interval))
    if trials and all(trial.steps == 0 for trial in trials):
        found.append(
            f"The learning rate {training.learning_rate:.3g} is untested: the probe was too short to search for one."
        )
    elif len(rates) >= 2 and not rates[0] < best < rates[-1]:
        found.append(
            f"The best learning rate of the search, {best:.3g}, is at the edge of those tried, so a better one may lie "
            "beyond it."
        )
    found.extend(contradicted(keep, r))
    if evidence.epochs > constants.MANY_EPOCHS:
        found.append(
            f"The probe went over its data {evidence.epochs:.1f} times, so part of the spectrum is memorisation."
        )
    if low_rank is None and heuristics.agrees is False and heuristics.row is not None:
        row = heuristics.row
        found.append(f"The reference table says {row.low}–{row.high} for {row.task}, more than one doubling away.")
    return tuple(found)


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


def contradicted(keep: KeepRank | None, r: int) -> list[str]:
    """Says of a keep rank that it contradicts the answer."""
    if keep is None or keep.r <= constants.KEEP_FACTOR * r:
        return []
    return [f"The keep rank {keep.r} contradicts the answer: it is more than {constants.KEEP_FACTOR:g} times {r}."]


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
    return level(found, unsound=evidence.steps < constants.FEW_STEPS or rate_doubt(evidence) is not None)


def level(found: Sequence[str], *, unsound: bool) -> str:
    """The confidence that so many doubts leave; ``unsound`` where one alone makes it low.

    >>> level([], unsound=False), level(["a", "b"], unsound=False), level(["a"], unsound=True)
    ('high', 'medium', 'low')
    """
    if unsound or len(found) > constants.MEDIUM_DOUBTS:
        return "low"
    return "medium" if found else "high"
