"""Why a run's evidence does not carry a recommendation (floor 2): a list of sentences each, empty where it does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.estimate import constants
from lorarank.estimate.recommendation import EnergyRule, Evidence, LowRank, Replication
from lorarank.runs import Manifest, Run, TrainingFacts
from lorarank.wording import percent


def refusals(
    manifest: Manifest,
    evidence: Evidence,
    rule: EnergyRule | None,
    replication: Replication | None,
    low_rank: LowRank | None = None,
    failed: Sequence[str] = (),
) -> tuple[str, ...]:
    """All of them.

    ``rule`` is ``None`` where the adapter holds NaN or infinity: the caller says so. ``low_rank`` is given where the
    answer comes from it, and ``failed`` where :func:`failed_companion` says that it cannot.
    """
    training = manifest.training
    return (
        *_wrong_rate(manifest),
        *_no_finite_trial(training),
        *_untrained(rule),
        *_no_gain(manifest, evidence),
        *(failed or _above_half(training, rule, low_rank)),
        *_no_agreement(replication),
    )


def _wrong_rate(manifest: Manifest) -> list[str]:
    training = manifest.training
    if not (math.isfinite(training.first_loss) and math.isfinite(training.final_loss)):
        return [
            f"The training loss is not a number: the learning rate {training.learning_rate:.3g} is evidently wrong; "
            f"{_other_rate(manifest)}."
        ]
    if training.final_loss > (1 + constants.ROSE) * training.first_loss:
        return [
            f"The training loss rose from {training.first_loss:.3f} to {training.final_loss:.3f}: the learning rate "
            f"{training.learning_rate:.3g} is evidently wrong; {_other_rate(manifest)}."
        ]
    return []


def _no_finite_trial(training: TrainingFacts) -> list[str]:
    trials = [trial for trial in training.learning_rate_trials if trial.steps > 0]
    if not trials or any(math.isfinite(trial.loss) for trial in trials):
        return []
    return ["No trial of the learning-rate search ended with a finite loss; probe again with a lower --lr."]


def _untrained(rule: EnergyRule | None) -> list[str]:
    if rule is None or rule.median != 0:
        return []
    return ["lora_B is all zero in every module: the probe did not train, so there is no spectrum to read."]


def beyond_half(low_rank: LowRank, probe_rank: int) -> bool:
    """Whether more is asked for than half of the probe's rank."""
    return max(low_rank.needed, low_rank.r) > constants.RANK_CEILING * probe_rank


def _above_half(training: TrainingFacts, rule: EnergyRule | None, low_rank: LowRank | None) -> list[str]:
    """Says of an answer that it is above half of the probe's rank."""
    ceiling = constants.RANK_CEILING * training.rank
    if low_rank is not None:
        if not beyond_half(low_rank, training.rank):
            return []
        strict = low_rank.allowed < constants.LOSS_SHARE
        more = f" Or let more than {percent(low_rank.allowed)} be lost." if strict else ""
        searched = "" if training.learning_rate_trials else ", and without --lr: one too high for r = 1 looks the same"
        return [
            f"More than r = {ceiling:g} is asked for, half of the probe's rank: r = {low_rank.rank} loses "
            f"{percent(low_rank.lost, 1)} of the gain, which asks for r = {low_rank.needed:.0f}, and a cut that loses "
            f"at most {percent(low_rank.cut_allowed)} keeps r = {low_rank.cut}: there the probe itself is no "
            f"yardstick. Probe higher with --rank {2 * training.rank}{searched}.{more}"
        ]
    if rule is None or not max(rule.median, rule.r) > ceiling:
        return []
    return [
        f"The answer is above {ceiling:g}, half of the probe's rank: "
        f"{percent(rule.share)} of the energy takes {rule.median:g} of the probe's {training.rank} directions in "
        "the median module, so its own ceiling shapes the number; probe higher with "
        f"--rank {2 * training.rank}."
    ]


def _no_agreement(replication: Replication | None) -> list[str]:
    if (
        replication is None
        or not replication.agreement < constants.REFUSED_AGREEMENT
        or replication.replicated_median != 0
    ):
        return []
    return [
        f"The replicates do not agree (agreement {replication.agreement:.2f}, replicated rank 0 in the median "
        "module): the energy is noise; probe with more --tokens."
    ]


def _no_gain(manifest: Manifest, evidence: Evidence) -> list[str]:
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


def failed_companion(run: Run) -> list[str]:
    """Says of a companion that it lost more than the probe cut to its rank, which training at that rank cannot.

    On none of the pairs of data/evidence/pairs it did; at twice the tuned rate it did on two tasks of four
    (data/evidence/invariance.json).
    """
    companion = run.companion
    cut = None if companion is None else next((p.excess for p in run.truncation.points if p.k == companion.rank), None)
    if companion is None or cut is None:
        return []
    lost, training = companion.excess, run.manifest.training
    if not lost.mean - cut.mean > constants.REFUSED_GAIN * math.hypot(lost.se, cut.se):  # nor where one is no number
        return []
    return [
        f"The probe at r = {companion.rank} loses {lost.mean:.3f} nats more than the whole probe, which loses "
        f"{cut.mean:.3f} cut to r = {companion.rank}: it did worse than training at that rank can. Most likely the "
        f"learning rate {training.learning_rate:.3g} is too high for it; {_other_rate(run.manifest)}."
    ]


def _other_rate(manifest: Manifest) -> str:
    """What to do about a learning rate that is too high: one that was given is best searched for."""
    training = manifest.training
    lower = f"give a lower one, say --lr {training.learning_rate / 3:.2g}"
    return lower if training.learning_rate_trials else "leave --lr out, and the probe searches for one"
