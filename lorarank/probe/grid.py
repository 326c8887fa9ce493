"""The grid of learning rates and the search on it (floor 2, no torch)."""

from __future__ import annotations

import math
from collections.abc import Callable

FIRST_RATE = 1e-3
"""Where the search begins: the rate of the first measured sweeps; about ten times full fine-tuning's, as Schulman et
al. (LoRA Without Regret, 2025) find for LoRA at alpha 32 whatever the rank."""

FACTOR = 10**0.5
"""From one notch to the next: half a decade."""

SETTLED = 0.5
"""Notches below the best short trial at which a whole probe is trained: in a few steps the loss falls fastest at rates
that are too high for all of them. On seven tasks of the demo's model the best trial's own rate lost 1.3 % of the gain
(4.9 % at worst), half a notch below it 0.2 % (0.9 %), a whole notch 0.9 % (1.8 %): data/evidence/settled-rate.json."""


def rate_of(notch: float) -> float:
    """The learning rate ``notch`` steps above :data:`FIRST_RATE`, to three digits.

    >>> rate_of(0), rate_of(1), rate_of(-2)
    (0.001, 0.00316, 0.0001)
    """
    return float(f"{FIRST_RATE * FACTOR**notch:.3g}")


UNTESTED_RATE = rate_of(-SETTLED)
"""What a probe trains at that is too short for a search: what a search would settle at whose first trial is the best.
At :data:`FIRST_RATE` itself Gemma 3 270M, tuned at a third of it, was refused on PubMedQA; at this it is answered
(data/evidence/short-probes.json)."""


def notch_of(rate: float) -> int:
    """The whole notch nearest to a learning rate: the inverse of :func:`rate_of`.

    >>> [notch_of(rate_of(notch)) for notch in (-3, 0, 4)]
    [-3, 0, 4]
    """
    return round(math.log(rate / FIRST_RATE) / math.log(FACTOR))


def bracket(judge: Callable[[int], float], trials: int) -> int:
    """The notch with the lowest ``judge``: from 0 up and down, then on in the better direction.

    ``judge`` is called for at most ``trials`` notches.

    >>> bracket(lambda notch: (notch - 2) ** 2, trials=4)
    2
    """
    tried = {notch: judge(notch) for notch in (0, 1, -1)[:trials]}
    while len(tried) < trials:
        best = min(tried, key=lambda notch: tried[notch])
        following = best + 1 if best == max(tried) else best - 1
        if following in tried:
            break
        tried[following] = judge(following)
    return min(tried, key=lambda notch: tried[notch])
