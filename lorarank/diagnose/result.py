"""What a diagnosis answers, as values (floor 2). Nothing here renders or measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorarank import __version__
from lorarank.result import Result

SCHEMA = 1

TOO_LOW, TOO_HIGH, FINE, CANNOT_TELL = "too low", "too high", "fine", "cannot tell"
"""The verdicts."""

SEEN, NOT_SEEN, UNTESTED = "seen", "not seen", "cannot be tested"
"""Outcomes of a sign."""

LOW, HIGH, NEITHER = "too low", "too high", ""
"""What a sign speaks for where it is seen."""


@dataclass(frozen=True)
class Sign:
    """One sign, tested.

    Attributes
    ----------
    name : "early plateau", "stuck", "overfitting", "gap", "unfinished", "diverged", "saturation" or "other ranks".
    speaks_for : what it speaks for where it is seen: "too low", "too high", or neither.
    outcome : "seen", "not seen" or "cannot be tested".
    sentence : what was seen, with its numbers.
    numbers : the same for programs; losses in the trainer's unit, shares of what was learned.
    """

    name: str
    speaks_for: str
    outcome: str
    sentence: str
    numbers: Mapping[str, float]

    @property
    def seen(self) -> bool:
        """Whether the sign is there."""
        return self.outcome == SEEN


@dataclass(frozen=True)
class Diagnosis(Result):
    """Whether the rank of a training run was right, as far as its curves tell.

    Attributes
    ----------
    source, kind : what was read; "run", "trainer state", "log" or "TensorBoard".
    rank : r of the run, where it is known.
    verdict : "too low", "too high", "fine" or "cannot tell".
    confidence : "high" where trained ranks were compared, "medium" where the sign has few other causes, "low" where it
        has many; ``None`` where nothing can be told.
    reason : why, in a sentence.
    next : what to do, the first thing first.
    signs : all of them, seen or not.
    losses, evaluations, steps : training losses, validation losses and the last step that were read.
    notes : what a reader of the numbers has to know.
    schema, lorarank : version of this layout, and of the package.
    """

    source: str
    kind: str
    rank: int | None
    verdict: str
    confidence: str | None
    reason: str
    next: tuple[str, ...]
    signs: tuple[Sign, ...]
    losses: int
    evaluations: int
    steps: int
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    lorarank: str = __version__
