"""The ladder of ranks: rounding to it, and distances on it."""

from __future__ import annotations

import math

LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""The ranks people train at."""


def round_up(rank: float) -> int:
    """The smallest rank of the ladder that is at least ``rank``; above the ladder its last.

    >>> round_up(0.3), round_up(5.5), round_up(8), round_up(1000)
    (1, 8, 8, 256)
    """
    return next((rung for rung in LADDER if rung >= rank), LADDER[-1])


def octaves(first: float, second: float) -> float:
    """Doublings between ``first`` and ``second``, without sign.

    >>> octaves(4, 16), octaves(32, 8)
    (2.0, 2.0)
    """
    return abs(math.log2(second / first))
