"""Rounding to the ladder of ranks, and distances on it (floor 2)."""

from __future__ import annotations

import math

from lorarank.numerics.allocation import LADDER, ladder_up

__all__ = ["LADDER", "octaves", "round_up"]


def round_up(rank: float) -> int:
    """The smallest rank of the ladder that is at least ``rank``; above the ladder its last.

    >>> round_up(0.3), round_up(5.5), round_up(8), round_up(1000)
    (1, 8, 8, 256)
    """
    return ladder_up(min(rank, LADDER[-1]))


def octaves(first: float, second: float) -> float:
    """Doublings between ``first`` and ``second``, without sign.

    >>> octaves(4, 16), octaves(32, 8)
    (2.0, 2.0)
    """
    return abs(math.log2(second / first))
