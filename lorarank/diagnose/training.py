"""A training run as its log shows it: what every reader of a log returns (floor 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorarank.diagnose.curves import NOTHING, Curve


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
