"""What a run says about itself, and how far its spectra are from noise (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.capacity import Recall, capacity_floor, recall
from lorarank.estimate import constants
from lorarank.estimate.recommendation import Evidence, Growth
from lorarank.estimate.rule import mean_rank
from lorarank.numerics import measures
from lorarank.numerics.pooling import Spectra, energies
from lorarank.runs import DataFacts, HeldoutFacts, Loss, Run, Trajectory
from lorarank.spectrum import Spectrum


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
