"""How an answer came about, in sentences (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.capacity import RECALL_EXPOSURES, RECALL_PARAMETERS, Recall
from lorarank.estimate import constants
from lorarank.estimate.recommendation import (
    Allocation,
    Alpha,
    EnergyRule,
    Evidence,
    Interval,
    KeepRank,
    LowRank,
    Outlook,
    Replication,
    TypeSummary,
)
from lorarank.numerics.ladder import LADDER, round_up
from lorarank.wording import directions, percent


def about_low_rank(found: LowRank | None, r: int) -> list[str]:
    """The number, from what the companion and a cut lose; ``r`` is the answer."""
    if found is None:
        return []
    mean = "geometric mean of the two, no less than 1 each,"
    halfway = (
        f"On the measured pairs the {mean} lost less of the gain than either: here" if found.told else f"The {mean} is"
    )
    return [
        f"The same probe at r = {found.rank} loses {percent(found.lost, 1)} ± {percent(found.lost_se, 1)} of the gain. "
        + by_law(found),
        f"Cut to r = {found.cut} and not trained on, the probe loses at most {percent(found.cut_allowed)} of it.",
        f"{halfway} {found.between:.1f}, rounded up to the ladder r = {round_up(found.between)}.",
        *about_prompts(found),
        *about_constant(found, r),
    ]


def by_law(found: LowRank) -> str:
    """At which rank no more is lost than may be, by what the companion loses."""
    loss = percent(found.allowed)
    if found.needed < found.rank:
        return f"That is {loss} or less."
    law = "in proportion to 1/r" if constants.POWER == 1 else f"as r to the power of -{constants.POWER:g}"
    return f"In trained sweeps that loss falls about {law}, so {loss} of the gain is lost at r = {found.needed:.1f}."


def about_constant(found: LowRank, r: int) -> list[str]:
    """Which rank would have done without a probe, where one would."""
    if found.allowed >= constants.PLENTY and r == found.r:
        return [
            f"Where {percent(constants.PLENTY)} or more may be lost, a constant r = {constants.ENOUGH} was within a "
            f"doubling of what suffices on all measured pairs, and lost {percent(constants.ENOUGH_LOSES)} at most: "
            "there it needs no probe."
        ]
    if found.told and r < constants.CONSTANT:
        return [
            f"On the measured pairs a constant r = {constants.CONSTANT} lost less of the gain than this rule, at "
            f"{constants.CONSTANT // r} times the parameters of r = {r}: where they are no matter, "
            f"{constants.CONSTANT} is a fair answer without a probe."
        ]
    return []


def about_prompts(found: LowRank) -> list[str]:
    """Why the answer is less than the geometric mean, where it is."""
    if found.r == round_up(found.between):
        return []
    return [
        "But held-out completions go as well with the prompts of other rows: whatever the probe learned of prompts is "
        f"of rows of training alone, and the cut is asked to keep that too. So what r = {found.rank} loses answers "
        f"alone, no less than 1: r = {found.r}."
    ]


def about_recall(recall: Recall | None, low_rank: LowRank | None, r: int) -> list[str]:
    """What learning by heart takes, where held-out rows ask for what training tells."""
    if recall is None or low_rank is None:
        return []
    asked = (
        "Held-out rows ask for what training tells: their targets are targets of training, and the probe does not "
        f"know {recall.bits:,.0f} bits of them yet."
    )
    rank = round_up(recall.rank)
    law = f"(in trained sweeps of such facts {RECALL_PARAMETERS:g} parameters recalled a bit)"
    told = f"A training of {recall.trained_tokens:,} tokens tells each of them {recall.exposures:,.0f} times"
    if not recall.binds:
        end = (
            f"from about {RECALL_EXPOSURES:g} times on recall takes r = {rank} {law}; say with --tokens how long it is."
        )
        return [f"{asked} {told}, too seldom for recall; {end}"]
    settles = "which sets the answer" if r != low_rank.r else "which the answer allows"
    return [f"{asked} {told}, and recall then takes r = {rank} {law}, {settles}."]


def about_length(tokens: int | None, recall: Recall | None, r: int, low_rank: LowRank | None) -> list[str]:
    """Says of a training's length that was asked for that it plays no part, where it does not."""
    if tokens is None or (recall is not None and low_rank is not None):
        return []
    return [
        f"That the training is to take {tokens:,} tokens plays no part in r = {r}: only recall is worked out by the "
        "length, and here nothing calls for it. The answer is for about as many tokens as the probe had; with "
        + ", ".join(f"{times} times as many {some} of {runs}" for times, (some, runs) in constants.AT_TIMES.items())
        + " answers on a small model were within a doubling of it."
    ]


def about_keep_loss(allowed: float, low_rank: LowRank | None, r: int) -> list[str]:
    """Says of another share of the gain that was asked for that it plays no part, where it does not."""
    if low_rank is not None or allowed == constants.LOSS_SHARE:
        return []
    return [
        f"That {percent(allowed)} of the gain may be lost plays no part in r = {r}, which the energy alone sets: the "
        "keep rank and what could be left out go by it."
    ]


def about_outlook(found: Outlook | None) -> list[str]:
    """What a longer run would do to the number."""
    if found is None:
        return []
    seen = f"{found.before:.3f} nats behind in the third quarter of training, {found.end:.3f} in the last"
    does = {"up": "falls behind further", "down": "catches up", "stays": "keeps its distance"}[found.moves]
    if found.end <= 0:
        does = "is not behind as training ends"
    more, runs = constants.ASKED_FOR_MORE[found.moves]
    likely = "will hardly" if found.moves == "down" else "may"
    return [
        f"The low rank {does} ({seen}): a longer run {likely} ask for more. With twice the tokens {more} of {runs} "
        "measured runs like this did."
    ]


def about_rule(rule: EnergyRule, modules: int, metric: str, *, alone: bool) -> list[str]:
    """What the energy says; ``alone`` where it is the answer."""
    share = percent(rule.share)
    begins = "In" if alone else f"The plain rule, which --energy {rule.share:g} asks for, would say: in"
    found = [
        f"{begins} the energy-weighted median of {modules} modules, {share} of the energy (metric {metric}) takes "
        f"{directions(rule.median)}; rounded up to the ladder that is r = {rule.r}.",
        f"r = {rule.r} everywhere keeps {percent(rule.kept, 1)} of the energy of all modules together; {share} of it "
        f"takes r = {rule.pooled} everywhere.",
    ]
    if rule.explicit:
        found.append("--energy was given, so this plain rule alone sets r; the evidence can only doubt or refuse it.")
    if rule.median > LADDER[-1]:
        found.append(f"The ladder ends at {LADDER[-1]}; the median lies above it.")
    return found


def about_interval(interval: Interval, low_rank: LowRank | None) -> list[str]:
    """What the interval is, and is not."""
    readings = ", ".join(f"{reading.r} ({reading.source})" for reading in interval.readings)
    if low_rank is not None:
        slow, fast = constants.POWER_RANGE
        return [
            f"The interval {interval.low}–{interval.high} is the envelope of these readings of r: {readings}. The "
            f"error is that of the loss at r = {low_rank.rank} over documents and seeds (95 %), with the loss falling "
            f"as r to the power of -{slow:g} to -{fast:g}."
        ]
    return [
        f"The interval {interval.low}–{interval.high} is the envelope of these readings of r: {readings}. It is no "
        f"confidence level: at {percent(constants.ENERGY, 0)} the rule was within a doubling on "
        f"{constants.ENERGY_RIGHT} of the measured pairs."
    ]


def about_evidence(evidence: Evidence, replication: Replication | None, *, alone: bool) -> list[str]:
    """Gain, replicates, growth, capacity; ``alone`` where the energy is the answer."""
    found = []
    if math.isfinite(evidence.gain) and math.isfinite(evidence.gain_se):
        found.append(
            f"The probe gains {evidence.gain:.3f} ± {evidence.gain_se:.3f} nats per token on "
            f"{evidence.heldout_documents} held-out documents, where the base model loses {evidence.base_loss:.3f}."
        )
    if replication is None:
        found.append("There is one probe and no replicate: that its energy is signal rests on the gain alone.")
    else:
        found.append(about_replication(replication))
    if evidence.growth is not None:
        growth = evidence.growth
        moved = f"(from {growth.before:.1f} three quarters of the way to {growth.end:.1f} at the end)"
        raised = ": the interval's upper end goes up one doubling." if alone else "."
        found.append(
            f"The mean energy rank still grew {moved}{raised}"
            if growth.grows
            else f"The mean energy rank had settled {moved}."
        )
    capacity = evidence.capacity
    if math.isfinite(capacity.rank):
        found.append(
            f"Learning the data by heart would take r = {round_up(capacity.rank)}: {capacity.target_tokens:,} distinct "
            f"target tokens of {capacity.bits_per_token:.2f} bits against 2 bits per parameter; this capacity floor "
            "can raise only the upper end."
        )
    return found


def about_replication(replication: Replication, *, one_training: bool = False) -> str:
    """Agreement and replicated rank, and what they are not; ``one_training`` where they are checkpoints of one."""
    meaning = (
        "how far the training had settled. Checkpoints of one training are no replicates, since they learned the same "
        "data, so it says nothing about noise."
        if one_training
        else "a measure of signal against noise, not of the rank a task needs."
    )
    return (
        f"{replication.adapters} adapters of the same modules agree at {replication.agreement:.2f} (energy-weighted; 1 "
        f"is the same update, 0 nothing in common), with {directions(replication.replicated_median)} replicated in "
        f"the median module: {meaning}"
    )


def about_keep(keep: KeepRank | None, allowed: float) -> list[str]:
    """The other question; ``allowed`` is the share of the gain that may be lost."""
    if keep is None:
        return []
    loss = percent(allowed)
    if keep.basis != "truncation curve":
        return [
            f"Keep rank {keep.r} describes the adapter: the rank that keeps that share of all its energy. What a cut "
            "costs was not measured."
        ]
    if keep.excess is None:
        return [
            f"Keep rank {keep.r}, the whole probe: no cut on the truncation curve (metric {keep.metric}) loses {loss} "
            "of the gain or less."
        ]
    told = keep.low is not None and keep.low != keep.high
    band = f" ({keep.low}–{keep.high} within a standard error)" if told else ""
    return [
        f"Keep rank {keep.r}{band}: cut to it, the trained probe loses at most {loss} of the gain "
        f"(metric {keep.metric}). Training at r bends few directions to the task and a cut does not, so this is "
        "another number, for shrinking an adapter that exists."
    ]


def about_alpha(alpha: Alpha, probe_alpha: int, probe_rate: float) -> list[str]:
    """Why this alpha, and which learning rate to start from."""
    return [
        f"lora_alpha = {alpha.lora_alpha} ({alpha.convention}): of r and 2r the nearer to {probe_alpha}, at which the "
        "probe's learning rate holds, because with alpha kept a tuned rate carries over between ranks (Schulman et "
        f"al. 2025). The probe's rate is {probe_rate:.3g}; start from {alpha.learning_rate:.2g} and tune from there, "
        f"or keep lora_alpha = {probe_alpha} and the probe's rate as it is."
    ]


def about_types(types: Sequence[TypeSummary], allowed: float) -> list[str]:
    """Which types could be left out, where so much of the gain may be lost."""
    if not any(kind.spare is not None for kind in types):
        return []
    loss = percent(allowed)
    spare = [kind.type for kind in types if kind.spare]
    if not spare:
        return [f"No module type can be left out for {loss} of the gain or less."]
    each = "each of them, alone," if len(spare) > 1 else "it"
    return [
        f"Could be left out: {', '.join(spare)}; without {each} the probe loses at most {loss} of "
        "the gain. Losses do not add up: leaving out two can cost more than both."
    ]


def about_allocation(allocation: Allocation | None) -> list[str]:
    """What the budget bought."""
    if allocation is None:
        return []
    without = sum(rank == 0 for rank in allocation.ranks.values())
    uniform = (
        f"the largest uniform r that fits is {allocation.uniform_r} ({allocation.uniform_parameters:,} parameters, "
        f"{percent(allocation.uniform_kept, 1)})"
        if allocation.uniform_r
        else "no uniform r fits"
    )
    return [
        f"Within {allocation.budget:,} parameters, ranks by energy per parameter in the loss metric use "
        f"{allocation.parameters:,} and keep {percent(allocation.kept, 1)} of it; {uniform}."
        + (f" {without} modules get no adapter." if without else "")
        + " Cut so, the embedded demo's probe mostly lost less than at one rank for all or by plain energy "
        "(data/evidence/keep-loss.json); whether it trains better was not measured."
    ]


def about_budget_refused(budget: int | None) -> list[str]:
    """Why a budget is left alone."""
    if budget is None:
        return []
    return [
        f"The budget of {budget:,} parameters is not divided among the modules: their spectra are not to be trusted."
    ]


def about_bare(count: int) -> list[str]:
    """What bare adapters can say."""
    return [
        ("One bare adapter says" if count == 1 else "Bare adapters say") + " what was used, not what a task needs: "
        "there is no train rank here, only a description and a keep rank. lorarank probe measures the train rank."
    ]


def about_comparison(count: int, replication: Replication | None, *, one_training: bool) -> list[str]:
    """What several bare adapters have in common."""
    if replication is not None:
        return [about_replication(replication, one_training=one_training)]
    if count > 1:
        return ["The adapters do not change the same modules, so they are described apart and not compared."]
    return []
