"""What the readers of training logs return, and which validation loss they take (floor 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorarank.diagnose.curves import NOTHING, Curve
from lorarank.errors import CurveError


@dataclass(frozen=True, eq=False)
class Training:
    """The curves of one run.

    Attributes
    ----------
    kind : "run", "trainer state", "log" or "TensorBoard".
    train, validation, rate : training loss, validation loss and learning rate against steps; empty where not logged.
    base : validation loss before training, where it was measured.
    fall_se : standard error of its fall since then, where it was measured document by document.
    epochs : passes over the data, where they are known.
    rank : r, where it is known.
    adapter : folder of the adapter that was trained, where it lies beside the log.
    notes : sentences on what was assumed.
    """

    kind: str
    train: Curve
    validation: Curve
    rate: Curve = NOTHING
    base: float | None = None
    fall_se: float | None = None
    epochs: float | None = None
    rank: int | None = None
    adapter: Path | None = None
    notes: tuple[str, ...] = ()


def chosen(names: list[str], wanted: str | None, where: Path) -> tuple[str | None, tuple[str, ...]]:
    """Which of several validation losses is meant, and a note where that was a choice."""
    if wanted is not None:
        if wanted not in names:
            there = f"there are: {', '.join(names)}" if names else "there is none at all"
            raise CurveError(where, f"no validation loss {wanted} was logged; {there}", do="name one of them, or none")
        return wanted, ()
    if not names:
        return None, ("No validation loss was logged.",)
    name = next((one for one in names if one in ("eval_loss", "eval/loss")), names[0])
    others = [one for one in names if one != name]
    return name, (f"The validation loss is {name}; there are also {', '.join(others)}.",) if others else ()
