"""How much a rank can memorise, and so the least a body of text can ask for (floor 2).

A brief probe sees the first pass over the data; a long run goes on until it has learned it by heart, where that is the
aim. What there is to learn is bounded by what the base model does not already know: its loss on the text, in bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BITS_PER_PARAMETER = 2.0
"""Knowledge a trained parameter holds. Z. Allen-Zhu and Y. Li, Physics of Language Models: Part 3.3, Knowledge Capacity
Scaling Laws, 2024 (arXiv:2404.05405): 2 bits per parameter after 1,000 exposures (1 bit after 100), for full training;
that LoRA parameters hold as much is assumed."""


@dataclass(frozen=True)
class CapacityFloor:
    """What the data could ask of an adapter that has to memorise all of it.

    ``bits`` in the targets, ``parameters`` that hold them, and the ``rank`` (not rounded) that has so many.
    """

    target_tokens: int
    bits_per_token: float
    bits: float
    parameters: float
    rank: float


def capacity_floor(target_tokens: int, loss: float, parameters_per_rank: int) -> CapacityFloor:
    """The rank whose parameters hold every bit of the data that the base model does not know.

    Parameters
    ----------
    target_tokens : distinct tokens that carry loss.
    loss : loss of the base model on them, nats per token.
    parameters_per_rank : Σ(out + in) over the adapted modules.

    Examples
    --------
    >>> floor = capacity_floor(61_440, 2.567, 305_280)
    >>> round(floor.bits_per_token, 2), round(floor.rank, 2)
    (3.7, 0.37)
    """
    bits_per_token = loss / math.log(2)
    bits = target_tokens * bits_per_token
    parameters = bits / BITS_PER_PARAMETER
    return CapacityFloor(target_tokens, bits_per_token, bits, parameters, parameters / parameters_per_rank)
