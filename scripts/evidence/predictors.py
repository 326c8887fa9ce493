"""Every rule that could answer "which rank": a pair's record in, a rank on the ladder out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.capacity import Recall, capacity_floor, recall
from lorarank.estimate import doubts
from lorarank.estimate.constants import CUT_FACTOR, KNOWN_TARGETS, LOSS_SHARE, POWER
from lorarank.heuristics import TASKS
from lorarank.numerics import criteria, measures
from lorarank.numerics.allocation import weighted_quantile
from lorarank.numerics.ladder import LADDER, round_up
from lorarank.runs import Loss

Record = Mapping[str, Any]
Rule = Callable[[Record], float]
Count = Callable[[NDArray[np.float64], tuple[int, int]], float]

SHARES = (0.80, 0.85, 0.90, 0.95, 0.99)
METRICS = ("weight", "activation", "loss")


def spectra_of(record: Record, metric: str) -> list[NDArray[np.float64]]:
    """Singular values of every module."""
    return [np.array(values, dtype=np.float64) for values in record["spectra"][metric].values()]


def shapes_of(record: Record) -> list[tuple[int, int]]:
    return [tuple(record["shapes"][name]) for name in record["spectra"]["weight"]]


def energies(spectra: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([float(np.square(values).sum()) for values in spectra])


def aggregates(ranks: list[float], weights: NDArray[np.float64]) -> dict[str, float]:
    """The ways to one number from a number a module."""
    return {
        "median": float(np.median(ranks)),
        "q50 by energy": weighted_quantile(ranks, weights, 0.5),
        "q75 by energy": weighted_quantile(ranks, weights, 0.75),
        "q90 by energy": weighted_quantile(ranks, weights, 0.9),
        "max": float(max(ranks)),
    }


def by_module(metric: str, count: Count, how: str) -> Rule:
    """A criterion in each module, and one way to aggregate."""

    def rule(record: Record) -> float:
        spectra = spectra_of(record, metric)
        ranks = [count(values, shape) for values, shape in zip(spectra, shapes_of(record), strict=True)]
        return aggregates(ranks, energies(spectra))[how]

    return rule


def energy(share: float) -> Count:
    """The energy rank, for :func:`by_module`."""
    return lambda values, shape: criteria.energy(values, share)


def unshaped(measure: Callable[[NDArray[np.float64]], float]) -> Count:
    """A measure that asks for no shape, for :func:`by_module`."""
    return lambda values, shape: measure(values)


def always(constant: int) -> Rule:
    """The same rank for everything."""
    return lambda record: constant


def pooled(metric: str, share: float) -> Rule:
    """The uniform rank that keeps a share of the energy of all modules together."""

    def rule(record: Record) -> float:
        spectra = spectra_of(record, metric)
        total = np.zeros(max(values.size for values in spectra))
        for values in spectra:
            total[: values.size] += np.square(values)
        return criteria.energy(np.sqrt(total), share)

    return rule


def global_threshold(share: float) -> Rule:
    """One threshold on all σ pooled, set to keep a share of the energy; the mean rank that is left of it. The threshold
    is PARA's (arXiv 2604.27796), the share ours."""

    def rule(record: Record) -> float:
        spectra = spectra_of(record, "weight")
        kept = criteria.energy(np.concatenate(spectra), share)
        return kept / len(spectra)

    return rule


def crossing(loss: float) -> Rule:
    """The smallest cut of the probe that loses at most a share of its gain."""

    def rule(record: Record) -> float:
        gain = record["probe"]["gain"][0]
        points = sorted(record["truncation"])
        return float(next((k for k, excess, _ in points if excess <= loss * gain), record["probe"]["rank"]))

    return rule


def capacity(record: Record) -> float:
    """Bits to learn by heart over bits that a rank holds."""
    probe = record["probe"]
    per_rank = sum(out + inner for out, inner in record["shapes"].values())
    return capacity_floor(probe["unique_target_tokens"], probe["base_loss"], per_rank).rank


def recalled(record: Record) -> Recall | None:
    """What recall asks for in a training as long as the sweep's, where held-out rows ask for it."""
    probe = record["probe"]
    if (probe.get("known_targets") or 0.0) < KNOWN_TARGETS:
        return None
    return recall(
        probe["distinct_target_tokens"],
        probe["base_loss"] - probe["gain"][0],
        record["tokens"],
        probe["unique_target_tokens"] / probe["unique_tokens"],
        sum(out + inner for out, inner in record["shapes"].values()),
    )


def or_recall(rule: Rule) -> Rule:
    """What recall asks for, where that is more."""

    def larger(record: Record) -> float:
        found = recalled(record)
        return max(rule(record), found.rank) if found is not None and found.binds else rule(record)

    return larger


def prompts_used(record: Record) -> bool:
    """Whether the probe predicts held-out completions worse behind the prompts of other rows."""
    lost = record.get("other_prompts")
    return doubts.prompts_used(lost and Loss(*lost))


def heeding_prompts(rule: Rule, limit: Rule) -> Rule:
    """No more than ``limit``, and than 1, where prompts are of no use."""

    def limited(record: Record) -> float:
        return rule(record) if prompts_used(record) else min(rule(record), max(limit(record), 1.0))

    return limited


def healed(loss: float) -> Rule:
    """The smallest cut that, trained on for a few steps, loses at most a share of the gain. Records have ``healed`` of
    an earlier way too, that made cuts worse: it is not read."""

    def rule(record: Record) -> float:
        gain = record["probe"]["gain"][0]
        points = sorted(record["heal"]["points"])
        return float(next((k for k, excess, _ in points if excess <= loss * gain), record["probe"]["rank"]))

    return rule


def replicated(how: str) -> Rule:
    """Leading components that a probe on the other half of the data confirms."""

    def rule(record: Record) -> float:
        ranks = [rank for rank, _ in (record["replicated"][name] for name in record["spectra"]["weight"])]
        return aggregates(ranks, energies(spectra_of(record, "weight")))[how]

    return rule


def explained(share: float) -> Rule:
    """Principal components of the base model's activations that explain a share of their variance, in the median
    module: EVA's spectrum (arXiv 2410.07170). EVA divides a given rank by it; that it says how much rank is asked here.
    """

    def rule(record: Record) -> float:
        return float(np.median([1 + np.searchsorted(np.cumsum(one), share) for one in record["activations"].values()]))

    return rule


def gradience(suggestion: str) -> Rule:
    """Suggestions of gradience 0.11: the median or the 90th percentile (over modules alike) of the 90 % energy rank
    (rank_suggestion.py), or 1.5 times the largest effective rank, at least 4 (finetune/lora.py)."""

    def rule(record: Record) -> float:
        spectra = spectra_of(record, "weight")
        if suggestion == "effective":
            return max(4, int(1.5 * max(measures.effective_rank(values) for values in spectra)))
        ranks = [criteria.energy(values, 0.9) for values in spectra]
        return float(np.quantile(ranks, {"median": 0.5, "p90": 0.9}[suggestion]))

    return rule


def companion(rank: int, power: float, at: str = "up") -> Rule:
    """What the same probe at a low rank loses, and a loss that falls as a power of the rank: :mod:`lorarank.estimate`'s
    rule with other constants. ``at`` is how the rank comes to the ladder, up or to the nearest."""

    def rule(record: Record) -> float:
        trained = [record["companion"]] if rank == 1 else record["companions"]
        (lost,) = (excess / record["probe"]["gain"][0] for k, excess, _ in trained if k == rank)
        needed = rank * math.pow(max(lost, 0.0) / LOSS_SHARE, 1 / power)
        return needed if at == "up" else needed / math.sqrt(2)

    return rule


def slope(speed: float) -> Rule:
    """How fast the loss still falls: a rank r that learns ``speed``/r times as slowly ends as much higher."""

    def rule(record: Record) -> float:
        points = np.array([point for point in record["curve"] if point[0] > 0.2])
        steepness = -float(np.polyfit(np.log(points[:, 0]), points[:, 1], 1)[0]) / record["probe"]["gain"][0]
        return speed / math.expm1(LOSS_SHARE / steepness) if steepness > 1e-4 else 1.0

    return rule


def table(end: str) -> Rule:
    """The reference table's row for the task."""

    def rule(record: Record) -> float:
        row = TASKS[record["task"]]
        return {"low": row.low, "high": row.high, "middle": math.sqrt(row.low * row.high)}[end]

    return rule


def combined(how: Callable[..., float], *rules: Rule) -> Rule:
    return lambda record: how(*(rule(record) for rule in rules))


def geometric_mean(one: float, other: float) -> float:
    """Halfway in doublings, of ranks that are no less than 1 each."""
    return math.sqrt(max(one, 1.0) * max(other, 1.0))


def predictors() -> Iterator[tuple[str, Rule]]:
    """Name and rule of every predictor."""
    hows = ("median", "q50 by energy", "q75 by energy", "q90 by energy", "max")
    for metric in METRICS:
        for share in SHARES:
            for how in hows:
                yield (
                    f"energy {share:g}, {how}, {metric}",
                    by_module(metric, energy(share), how),
                )
            yield f"energy {share:g}, pooled, {metric}", pooled(metric, share)
    plain: dict[str, Callable[[NDArray[np.float64]], float]] = {
        "effective rank": measures.effective_rank,
        "entropy of energy": measures.energy_entropy_rank,
        "stable rank": measures.stable_rank,
        "participation ratio": measures.participation_ratio,
    }
    for name, measure in plain.items():
        for how in ("q50 by energy", "q90 by energy"):
            yield f"{name}, {how}, weight", by_module("weight", unshaped(measure), how)
    yield (
        "stable rank + 1 rounded up, median, weight",
        by_module("weight", lambda values, _: math.ceil(measures.stable_rank(values)) + 1, "median"),
    )
    for name, law in (("Gavish-Donoho", criteria.gavish_donoho), ("Marchenko-Pastur", criteria.marchenko_pastur)):
        for how in ("q50 by energy", "q90 by energy"):
            yield f"{name}, {how}, weight", by_module("weight", law, how)
    for share in (0.8, 0.9, 0.95):
        yield f"one threshold on all σ, energy {share:g}", global_threshold(share)
    for loss in (0.01, 0.02, 0.05, 0.10):
        yield f"truncation curve, {loss:.0%} of the gain", crossing(loss)
        yield f"cut and healed, {loss:.0%} of the gain", healed(loss)
    yield "capacity floor", capacity
    for rank in (1, 2, 4):
        for power in (0.75, 0.9, 1.0, 1.1):
            yield f"companion at {rank}, power {power:g}", companion(rank, power)
            yield f"companion at {rank}, power {power:g}, nearest", companion(rank, power, "nearest")
    for speed in (0.3, 1.0):
        yield f"slope of the training loss, speed {speed:g}", slope(speed)
    for how in ("median", "q50 by energy", "q90 by energy"):
        yield f"replicated rank, {how}", replicated(how)
    for share in (0.5, 0.8, 0.9, 0.95):
        yield f"EVA, {share:g} of the activations' variance", explained(share)
    for suggestion in ("median", "p90", "effective"):
        yield f"gradience, {suggestion}", gradience(suggestion)
    for end in ("low", "middle", "high"):
        yield f"table, {end}", table(end)
    for constant in (1, 2, 4, 8, 16, 32):
        yield f"always {constant}", always(constant)
    for power in (0.75, 0.9, 1.0, 1.1):
        for loss in (0.01, 0.02, 0.05, 0.10):
            lost = companion(1, power)
            name = f"companion at 1, power {power:g}, and truncation {loss:.0%}"
            yield f"{name}, the mean", combined(geometric_mean, lost, crossing(loss))
            if (power, loss) == (POWER, CUT_FACTOR * LOSS_SHARE):
                mean = combined(geometric_mean, lost, crossing(loss))
                yield f"{name}, the mean, or recall", or_recall(mean)
                yield f"{name}, the mean, heeding prompts and recall", or_recall(heeding_prompts(mean, lost))
            yield f"{name}, the larger", combined(max, lost, crossing(loss))
            yield f"{name}, the smaller", combined(min, lost, crossing(loss))
    energy90 = by_module("weight", energy(0.9), "q50 by energy")
    yield "energy 0.9 and truncation 5%, the smaller", combined(min, energy90, crossing(0.05))
    yield "energy 0.9 and truncation 5%, the larger", combined(max, energy90, crossing(0.05))
    yield "energy 0.9 and capacity floor, the larger", combined(max, energy90, capacity)
    yield "energy 0.9 and truncation 5%, the mean", combined(geometric_mean, energy90, crossing(0.05))


def on_ladder(rank: float) -> int:
    """Rounded up to the ladder, at least 1."""
    return round_up(max(1.0, min(rank, LADDER[-1])))
