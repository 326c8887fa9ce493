"""What pictures show, as numbers (floor 4); *drawing* places it as SVG, *figures* with matplotlib."""

from __future__ import annotations

import math

from lorarank.runs import Truncation
from lorarank.sweep.outcome import Outcome


def gain_lost(curve: Truncation, gain: float) -> list[tuple[int, float, float]]:
    """For each k, ascending: k, the share of the ``gain`` that a cut to it loses, and its standard error.

    The last is the whole probe, which loses nothing. An error that is not known is 0.
    """
    points = [(p.k, p.excess.mean / gain, p.excess.se / gain) for p in curve.points if math.isfinite(p.excess.mean)]
    return [(k, mean, se if math.isfinite(se) else 0.0) for k, mean, se in sorted([*points, (curve.rank, 0.0, 0.0)])]


def sufficient(answer: Outcome) -> tuple[float, float]:
    """The lowest loss of a sweep, and the highest that suffices beside it."""
    best = min(one.loss.mean for one in answer.ranks if math.isfinite(one.loss.mean))
    return best, best + answer.allowed * max(answer.gain.mean, 0.0)
