"""What a run knows about the loss that a cut costs (floor 2): its truncation curve, as shares of its gain.

Curve and gain are those of the run's first adapter, the one that is resized.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorarank import runs
from lorarank.errors import OptionError
from lorarank.estimate.readings import keep_rank
from lorarank.resize.result import MeasuredLoss
from lorarank.runs import Run


def kept(run: Run | None, metric: str, share: float) -> int:
    """The smallest uniform rank that loses at most ``share`` of the gain.

    Raises
    ------
    OptionError
        There is no run, its curve is in another metric, or its probe gained nothing.
    """
    if run is None:
        raise OptionError(
            "--keep-loss",
            "an adapter alone does not say what a cut costs",
            do="give the run folder that `lorarank probe` made, or use --energy",
        )
    if metric != run.truncation.metric:
        raise OptionError(
            f"--metric {metric}",
            f"the run has measured the loss of cuts in the metric {run.truncation.metric}",
            do=f"give --metric {run.truncation.metric} with --keep-loss",
        )
    found = keep_rank(run.truncation, run.manifest.heldout.gains[0].mean, share)
    if found is None:
        raise OptionError("--keep-loss", "this probe gained nothing over its base", do="probe again")
    return found.r


def measured(run: Run | None, metric: str, ranks: Sequence[int]) -> tuple[MeasuredLoss | None, str]:
    """What a run has measured of a cut to these ranks; else ``None`` and a sentence that says why not."""
    if run is None:
        return None, "What this cut costs was not measured: a bare adapter holds no held-out loss."
    gain = run.manifest.heldout.gains[0].mean
    curve = run.truncation
    if len(set(ranks)) > 1:
        return None, "What this cut costs was not measured: the run has cut all modules to one rank only."
    if metric != curve.metric:
        return None, f"What this cut costs was not measured: the run has cut in the metric {curve.metric}."
    k = ranks[0]
    if not gain > 0:
        return None, "The probe gained nothing over its base, so there is no share of a gain to lose."
    if k >= curve.rank:
        return MeasuredLoss(k, 0.0, 0.0, curve.documents), ""
    for point in curve.points:
        if point.k == k:
            se = point.excess.se / gain if np.isfinite(point.excess.se) else None
            return MeasuredLoss(k, point.excess.mean / gain, se, curve.documents), ""
    near = ", ".join(f"{100 * p.excess.mean / gain:.1f}% of the gain at k = {p.k}" for p in _beside(curve.points, k))
    return None, f"The loss at k = {k} was not measured; beside it the run lost {near}."


def _beside(points: Sequence[runs.TruncationPoint], k: int) -> list[runs.TruncationPoint]:
    below = [point for point in points if point.k < k]
    above = [point for point in points if point.k > k]
    return [*sorted(below, key=lambda p: p.k)[-1:], *sorted(above, key=lambda p: p.k)[:1]]
