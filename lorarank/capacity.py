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


RECALL_EXPOSURES = 64.0
"""Times that a training has to tell a fact before recall binds: in data/evidence/pairs facts told 30 times or less
were learned no better at 32 than at 1, and of facts told 120 times a higher rank learned more. A judgement between."""

RECALL_PARAMETERS = 40.0
"""Trainable parameters for each bit that is recalled, after 120 exposures and more. Of the pairs of recalled facts in
data/evidence/pairs 128 facts (2,000 bits) took r = 4 asked in the words they were told in and 8 asked in others, and 32
(500 bits) r = 4 on the demo model, 25 to 100 parameters a bit: this gives 8 and, a doubling low, 2. 256 facts, added
after it was fixed, took 8, and it gives 16. It is an eightieth of what :data:`BITS_PER_PARAMETER` says: a low rank
learns slower than it could hold."""


@dataclass(frozen=True)
class Recall:
    """What answering with what training told asks for.

    ``tokens`` of distinct targets and the ``bits`` of them that the probe does not know yet, how often a training of
    ``trained_tokens`` tells each of them (``exposures``), and the ``rank`` (not rounded) that recalls them after many.
    """

    tokens: int
    bits: float
    trained_tokens: int
    exposures: float
    rank: float

    @property
    def binds(self) -> bool:
        """Whether the training is long enough for facts to be recalled at all."""
        return self.exposures >= RECALL_EXPOSURES


def recall(tokens: int, loss: float, trained_tokens: int, target_share: float, parameters_per_rank: int) -> Recall:
    """The rank that a training takes to recall what it is told.

    Parameters
    ----------
    tokens : of distinct targets in training.
    loss : of the probe on such targets, nats per token: what it does not know yet.
    trained_tokens : of the training that the rank is for.
    target_share : share of its tokens that are targets.
    parameters_per_rank : Σ(out + in) over the adapted modules.

    Examples
    --------
    >>> found = recall(1_088, 1.3, 262_144, 0.4, 12_800)
    >>> round(found.bits), round(found.exposures), found.binds, round(found.rank, 1)
    (2041, 96, True, 6.4)
    """
    bits = tokens * max(loss, 0.0) / math.log(2)
    exposures = trained_tokens * target_share / max(1, tokens)
    return Recall(tokens, bits, trained_tokens, exposures, bits * RECALL_PARAMETERS / parameters_per_rank)


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
